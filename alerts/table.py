"""The table of all alerts in docs/alerts.md, and the list of thresholds, produced from the rules."""

import re

from alerts.paths import TABLE
from alerts.rules import SEVERITIES, Alert, alerts, thresholds
from alerts.sample import LABEL, VALUE
from sidecar import OpsError

BEGIN = "<!-- produced by `./ops alerts docs`; do not edit below -->"
TITLES = {
    "api": "API", "celery": "Celery", "redis": "Redis", "postgres": "PostgreSQL", "host": "Host",
    "container": "Containers", "edge": "Edge", "backup": "Backup", "monitoring": "Monitoring",
}  # fmt: skip
READS = re.compile(r"threshold:[a-z0-9_]+:[a-z]+")


def text() -> str:
    """The produced part of the page."""
    counted = {one: sum(alert.severity == one for alert in alerts()) for one in SEVERITIES}
    parts = [
        BEGIN,
        "",
        f"{len(alerts())} alerts: " + ", ".join(f"{count} {one}" for one, count in counted.items()) + ".",
        "",
    ]
    for component, title in TITLES.items():
        chosen = [alert for alert in alerts() if alert.component == component]
        parts += [f"### {title}", "", "| alert | severity | after | tells |", "|---|---|---|---|"]
        parts += [_row(alert) for alert in chosen] + [""]
    return "\n".join([*parts, *_thresholds()])


def page() -> str:
    """The whole page, with its produced part renewed.

    Raises:
        OpsError: the page has lost the mark where that part begins.
    """
    written, mark, _ = TABLE.read_text(encoding="utf-8").partition(BEGIN)
    if not mark:
        raise OpsError(f"{TABLE.name} has no line {BEGIN}", hint="put it where the table belongs")
    return written + text()


def _row(alert: Alert) -> str:
    link = f"[{alert.name}](../runbooks/alerts/{alert.name}.md)"
    return (
        f"| {link} | {alert.severity} | {alert.holds or 'at once'} | {_plain(alert.annotations['summary'])} |"
    )


def _plain(template: str) -> str:
    """A summary with its placeholders named instead of filled in."""
    return VALUE.sub("*N*", LABEL.sub(r"*\1*", template)).replace("|", r"\|")


def _thresholds() -> list[str]:
    used: dict[str, list[str]] = {name: [] for name in thresholds()}
    for alert in alerts():
        for name in READS.findall(alert.expr):
            used.setdefault(name, []).append(alert.name)
    rows = [f"| `{name}` | {value:g} | {', '.join(dict.fromkeys(used[name])) or '(a recording rule)'} |"
            for name, value in thresholds().items()]  # fmt: skip
    return ["### Thresholds", "", "| threshold | value | read by |", "|---|---|---|", *rows, ""]
