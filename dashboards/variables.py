"""The variables at the top of a dashboard."""

from dataclasses import dataclass

from grafana_foundation_sdk.builders import dashboard as builder
from grafana_foundation_sdk.models.dashboard import (
    VariableHide,
    VariableOption,
    VariableRefresh,
    VariableSort,
)

from dashboards.query import DATASOURCE, SCOPE, select

Variable = builder.QueryVariable | builder.DatasourceVariable


@dataclass(frozen=True)
class Choice:
    """A variable whose values are the values of a label."""

    name: str
    label: str
    metric: str
    source_label: str
    matchers: tuple[str, ...] = ()
    # Value of "All": `.*` also matches series without the label.
    everything: str = ".*"
    hidden: bool = False
    help: str = ""


QUEUE = Choice("queue", "Queue", "celery_queue_length", "queue_name", help="Celery queue")
TASK = Choice("task", "Task", "celery_tasks_total", "task", help="Celery task name")
HOST = Choice("host", "Worker", "celery_worker_up", "hostname", help="Celery worker (node name)")
DATABASE = Choice("database", "Database", "backup_age_seconds", "database", help="Database with backups")


def common(jobs: str, *, hidden: bool = False) -> list[Variable]:
    """Return data source, environment, job and instance; `jobs` is a regular expression."""
    hide = VariableHide.HIDE_VARIABLE if hidden else VariableHide.DONT_HIDE
    return [
        _datasource(),
        _label_values("environment", "Environment", "up", "environment", ".*").hide(VariableHide.DONT_HIDE),
        _label_values("job", "Job", f'up{{{SCOPE[0]}, job=~"{jobs}"}}', "job", ".+").hide(hide),
        _label_values(
            "instance", "Instance", f'up{{{SCOPE[0]}, {SCOPE[1]}, job=~"{jobs}"}}', "instance", ".+"
        ).hide(hide),
    ]


def choice(wanted: Choice) -> Variable:
    """Return the variable of `wanted`, restricted by the variables before it."""
    metric = select(wanted.metric, *wanted.matchers)
    variable = _label_values(wanted.name, wanted.label, metric, wanted.source_label, wanted.everything)
    return variable.description(wanted.help)


def _datasource() -> builder.DatasourceVariable:
    current = VariableOption(selected=True, text="default", value="default")
    return builder.DatasourceVariable("datasource").label("Data source").type("prometheus").current(current)


def _label_values(name: str, label: str, metric: str, source: str, everything: str) -> builder.QueryVariable:
    query = f"label_values({metric}, {source})"
    return (
        builder.QueryVariable(name)
        .label(label)
        .datasource(DATASOURCE)
        .query(query)
        .definition(query)
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(everything)
        .current(VariableOption(selected=True, text=["All"], value=["$__all"]))
    )
