"""What must be true of every alert, beyond what promtool and amtool check."""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from alerts import table
from alerts.paths import ROOT, RUNBOOKS, TABLE
from alerts.rules import SEVERITIES, Alert, Record, alerts, records, thresholds, thresholds_of_one
from alerts.unittests import FIRES, SILENT, cases
from sidecar.promql import Matcher, selectors

ANNOTATIONS = ("summary", "description", "runbook_url", "dashboard_url")
DASHBOARD = re.compile(r"\{\{ \$externalLabels\.grafana \}\}/d/([a-z-]+)\?")
VARIABLE = re.compile(r"[?&]var-(\w+)=")
# A summary that a phone shows without cutting it.
LONGEST_SUMMARY = 120
# How a rule reads what one queue has for itself.
OF_ONE_QUEUE = Matcher("queue_name", "!=", "")
# Why an alert has no test that shows it silent.
NEVER_SILENT = {"Watchdog": "fires always; its absence is what is noticed, outside"}


def problems() -> list[str]:
    """Everything that is wrong, one line each."""
    return [problem for check in CHECKS for problem in check()]


def labels_and_annotations() -> Iterator[str]:
    """Each alert says how bad it is, where, what, and what to do."""
    for alert in alerts():
        if alert.severity not in SEVERITIES:
            yield f"{alert.name}: severity is {alert.severity or 'missing'}"
        if alert.component not in table.TITLES:
            yield f"{alert.name}: component is {alert.component or 'missing'}"
        for name in ANNOTATIONS:
            if not alert.annotations.get(name):
                yield f"{alert.name}: no {name}"
        if len(alert.annotations.get("summary", "")) > LONGEST_SUMMARY:
            yield f"{alert.name}: summary is longer than {LONGEST_SUMMARY} characters"


def names() -> Iterator[str]:
    """Each name once."""
    seen = [alert.name for alert in alerts()]
    yield from (f"{name}: defined twice" for name in sorted({name for name in seen if seen.count(name) > 1}))


def pages() -> Iterator[str]:
    """Each alert links to its page, which exists; no page is left over."""
    for alert in alerts():
        if alert.annotations.get("runbook_url") != f"{{{{ $externalLabels.runbooks }}}}/{alert.name}.md":
            yield f"{alert.name}: runbook_url does not lead to its page"
        if not (RUNBOOKS / f"{alert.name}.md").is_file():
            yield f"{alert.name}: no page runbooks/alerts/{alert.name}.md"
    known = {alert.name for alert in alerts()} | {"README"}
    for path in sorted(RUNBOOKS.glob("*.md")):
        if path.stem not in known:
            yield f"runbooks/alerts/{path.name}: there is no such alert"


def dashboards() -> Iterator[str]:
    """Each alert links to a dashboard that exists, with variables that it has."""
    folder = ROOT / "dashboards" / "json"
    variables = {path.stem: _variables(path) for path in folder.glob("*.json")}
    for alert in alerts():
        url = alert.annotations.get("dashboard_url", "")
        match = DASHBOARD.match(url)
        if match is None or match.group(1) not in variables:
            yield f"{alert.name}: dashboard_url leads to no dashboard"
            continue
        for name in sorted(set(VARIABLE.findall(url)) - variables[match.group(1)]):
            yield f"{alert.name}: {match.group(1)} has no variable {name}"


def _variables(dashboard: Path) -> set[str]:
    document = json.loads(dashboard.read_text(encoding="utf-8"))
    return {variable["name"] for variable in document["templating"]["list"]}


def tested_both_ways() -> Iterator[str]:
    """Each alert is shown firing and shown silent."""
    found = cases()
    known = {alert.name for alert in alerts()}
    for case in found:
        if case.alert not in known:
            yield f"alerts/tests/{case.file}.yml: test of {case.alert}, which is no alert"
        elif not case.keeps_its_word:
            yield f"alerts/tests/{case.file}.yml: “{case.alert} {case.kind}: {case.text}” does not show that"
    shown = {(case.alert, case.kind) for case in found}
    for alert in alerts():
        if (alert.name, FIRES) not in shown:
            yield f"{alert.name}: no unit test shows it firing"
        if (alert.name, SILENT) not in shown and alert.name not in NEVER_SILENT:
            yield f"{alert.name}: no unit test shows it silent"


def own_series_exist() -> Iterator[str]:
    """Recorded series and thresholds that a rule reads are recorded somewhere."""
    recorded = {record.name for record in records()}
    for name, expression in [*((a.name, a.expr) for a in alerts()), *((r.name, r.expr) for r in records())]:
        for selector in selectors(expression):
            if ":" in selector.metric and selector.metric not in recorded:
                yield f"{name}: reads {selector.metric}, which nothing records"


def thresholds_are_used() -> Iterator[str]:
    """Each threshold is read, and AlertThresholdsMissing counts them all."""
    expressions = [*(alert.expr for alert in alerts()), *(record.expr for record in records())]
    read = {name for expression in expressions for name in table.READS.findall(expression)}
    yield from (f"{name}: no rule reads it" for name in sorted(set(thresholds()) - read))
    for alert in alerts():
        if alert.name == "AlertThresholdsMissing" and not alert.expr.endswith(f"< {len(thresholds())}"):
            yield f"AlertThresholdsMissing: there are {len(thresholds())} thresholds"


def thresholds_of_one_queue_are_read(own: Iterable[Record] | None = None) -> Iterator[str]:
    """A second series of a threshold that a rule reads with scalar() would silence that rule for every queue."""
    readable = {
        selector.metric
        for record in records()
        for selector in selectors(record.expr)
        if OF_ONE_QUEUE in selector.matchers
    }
    for one in thresholds_of_one() if own is None else own:
        if one.name not in readable or set(one.labels) != {OF_ONE_QUEUE.label}:
            yield f"{one.name} {one.labels}: only {', '.join(sorted(readable))} may differ, by queue_name"


def table_is_fresh() -> Iterator[str]:
    """docs/alerts.md shows the alerts as they are."""
    if not TABLE.is_file() or table.page() != TABLE.read_text(encoding="utf-8"):
        yield "docs/alerts.md is out of date; ./ops alerts docs renews it"


def link_of(alert: Alert) -> str:
    """The page of an alert, seen from the checkout's root."""
    return str((RUNBOOKS / f"{alert.name}.md").relative_to(ROOT))


CHECKS: tuple[Callable[[], Iterator[str]], ...] = (
    labels_and_annotations,
    names,
    pages,
    dashboards,
    tested_both_ways,
    own_series_exist,
    thresholds_are_used,
    thresholds_of_one_queue_are_read,
    table_is_fresh,
)
