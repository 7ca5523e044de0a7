"""Checks that every alert must pass, in addition to those of promtool and amtool."""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from alerts import docs_table
from alerts.paths import ROOT, RUNBOOKS, TABLE
from alerts.rule_tests import FIRES, SILENT, cases
from alerts.rules import SEVERITIES, Alert, Record, alerts, queue_thresholds, records, thresholds
from sidecar.promql import Matcher, selectors

ANNOTATIONS = ("summary", "description", "runbook_url", "dashboard_url")
DASHBOARD = re.compile(r"\{\{ \$externalLabels\.grafana \}\}/d/([a-z-]+)\?")
VARIABLE = re.compile(r"[?&]var-(\w+)=")
# Longer summaries are cut off on a phone.
LONGEST_SUMMARY = 120
# How a rule reads a threshold that applies to one queue.
OF_ONE_QUEUE = Matcher("queue_name", "!=", "")
# Alerts without a silent test case, and the reason.
NEVER_SILENT = {"Watchdog": "always fires; the dead man's switch notices when it stops"}


def problems() -> list[str]:
    """Return all problems, one line each."""
    return [problem for check in CHECKS for problem in check()]


def labels_and_annotations() -> Iterator[str]:
    """Each alert has a severity, a component, and all annotations."""
    for alert in alerts():
        if alert.severity not in SEVERITIES:
            yield f"{alert.name}: severity is {alert.severity or 'missing'}"
        if alert.component not in docs_table.TITLES:
            yield f"{alert.name}: component is {alert.component or 'missing'}"
        for name in ANNOTATIONS:
            if not alert.annotations.get(name):
                yield f"{alert.name}: no {name}"
        if len(alert.annotations.get("summary", "")) > LONGEST_SUMMARY:
            yield f"{alert.name}: summary is longer than {LONGEST_SUMMARY} characters"


def names() -> Iterator[str]:
    """Alert names are unique."""
    seen = [alert.name for alert in alerts()]
    yield from (f"{name}: defined twice" for name in sorted({name for name in seen if seen.count(name) > 1}))


def pages() -> Iterator[str]:
    """Each alert links to its runbook, which exists, and each runbook belongs to an alert."""
    for alert in alerts():
        if alert.annotations.get("runbook_url") != f"{{{{ $externalLabels.runbooks }}}}/{alert.name}.md":
            yield f"{alert.name}: runbook_url does not lead to its runbook"
        if not (RUNBOOKS / f"{alert.name}.md").is_file():
            yield f"{alert.name}: no runbook runbooks/alerts/{alert.name}.md"
    known = {alert.name for alert in alerts()} | {"README"}
    for path in sorted(RUNBOOKS.glob("*.md")):
        if path.stem not in known:
            yield f"runbooks/alerts/{path.name}: there is no such alert"


def dashboards() -> Iterator[str]:
    """Each alert links to an existing dashboard and sets only variables that it has."""
    folder = ROOT / "dashboards" / "json"
    variables = {path.stem: _variables(path) for path in folder.glob("*.json")}
    for alert in alerts():
        url = alert.annotations.get("dashboard_url", "")
        match = DASHBOARD.match(url)
        if match is None or match.group(1) not in variables:
            yield f"{alert.name}: dashboard_url does not lead to a dashboard"
            continue
        for name in sorted(set(VARIABLE.findall(url)) - variables[match.group(1)]):
            yield f"{alert.name}: {match.group(1)} has no variable {name}"


def _variables(dashboard: Path) -> set[str]:
    document = json.loads(dashboard.read_text(encoding="utf-8"))
    return {variable["name"] for variable in document["templating"]["list"]}


def tested_both_ways() -> Iterator[str]:
    """Each alert has a test case in which it fires and one in which it does not."""
    found = cases()
    known = {alert.name for alert in alerts()}
    for case in found:
        if case.alert not in known:
            yield f"alerts/tests/{case.file}.yml: test of {case.alert}, which does not exist"
        elif not case.is_consistent:
            yield f"alerts/tests/{case.file}.yml: '{case.alert} {case.kind}: {case.text}' expects the opposite"
    shown = {(case.alert, case.kind) for case in found}
    for alert in alerts():
        if (alert.name, FIRES) not in shown:
            yield f"{alert.name}: no unit test in which it fires"
        if (alert.name, SILENT) not in shown and alert.name not in NEVER_SILENT:
            yield f"{alert.name}: no unit test in which it stays silent"


def own_series_exist() -> Iterator[str]:
    """Each recorded series and threshold that a rule reads has a recording rule."""
    recorded = {record.name for record in records()}
    for name, expression in [*((a.name, a.expr) for a in alerts()), *((r.name, r.expr) for r in records())]:
        for selector in selectors(expression):
            if ":" in selector.metric and selector.metric not in recorded:
                yield f"{name}: reads {selector.metric}, which no rule records"


def thresholds_are_used() -> Iterator[str]:
    """Each threshold is read by a rule, and AlertThresholdsMissing counts all of them."""
    expressions = [*(alert.expr for alert in alerts()), *(record.expr for record in records())]
    read = {name for expression in expressions for name in docs_table.READS.findall(expression)}
    yield from (f"{name}: no rule reads it" for name in sorted(set(thresholds()) - read))
    for alert in alerts():
        if alert.name == "AlertThresholdsMissing" and not alert.expr.rstrip().endswith(
            f"!= {len(thresholds())}"
        ):
            yield f"AlertThresholdsMissing: there are {len(thresholds())} thresholds"


def queue_thresholds_are_read(own: Iterable[Record] | None = None) -> Iterator[str]:
    """Only thresholds that rules read by queue have per-queue values: scalar() of two series is NaN."""
    readable = {
        selector.metric
        for record in records()
        for selector in selectors(record.expr)
        if OF_ONE_QUEUE in selector.matchers
    }
    for threshold in queue_thresholds() if own is None else own:
        if threshold.name not in readable or set(threshold.labels) != {OF_ONE_QUEUE.label}:
            yield f"{threshold.name} {threshold.labels}: only {', '.join(sorted(readable))} may have per-queue values, by queue_name"


def table_is_fresh() -> Iterator[str]:
    """The tables in docs/alerts.md are up to date."""
    if not TABLE.is_file() or docs_table.page() != TABLE.read_text(encoding="utf-8"):
        yield "docs/alerts.md is out of date; run ./ops alerts docs"


def runbook_of(alert: Alert) -> str:
    """The path of an alert's runbook, relative to the checkout."""
    return str((RUNBOOKS / f"{alert.name}.md").relative_to(ROOT))


CHECKS: tuple[Callable[[], Iterator[str]], ...] = (
    labels_and_annotations,
    names,
    pages,
    dashboards,
    tested_both_ways,
    own_series_exist,
    thresholds_are_used,
    queue_thresholds_are_read,
    table_is_fresh,
)
