"""The rules of grafana/dashboard-linter for Prometheus dashboards, under the linter's own names.

Each rule is a function from a dashboard (parsed JSON) to its problems. Rules about LogQL are omitted: no dashboard
here has a Loki data source.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from grafana_foundation_sdk.models import units

from sidecar.promql import Selector, selectors

Json = dict[str, Any]

DATASOURCES = {"$datasource", "${datasource}", "$prometheus_datasource", "${prometheus_datasource}"}
RATE_FUNCTIONS = {"rate", "irate"}
COUNTER_FUNCTIONS = {*RATE_FUNCTIONS, "increase"}
# The panel types that the linter checks.
WITH_UNITS = {"stat", "gauge", "table", "timeseries"}
WITH_QUERIES = {*WITH_UNITS, "state-timeline"}
UNITS = {value for name, value in vars(units).items() if not name.startswith("_") and isinstance(value, str)}


@dataclass(frozen=True)
class Problem:
    """A problem found by a rule, with panel title and query index if it concerns one."""

    rule: str
    dashboard: str
    text: str
    panel: str = ""
    query: int | None = None

    def __str__(self) -> str:
        place = " / ".join(part for part in (self.dashboard, self.panel) if part)
        return f"{self.rule}: {place}: {self.text}"


Rule = Callable[[Json], Iterator[Problem]]
RULES: dict[str, Rule] = {}


def rule(name: str) -> Callable[[Callable[[Json], Iterator[Problem]]], Rule]:
    """Register a rule under the linter's name."""

    def register(found: Rule) -> Rule:
        RULES[name] = found
        return found

    return register


def lint(dashboard: Json) -> list[Problem]:
    """Return the problems of all rules."""
    return [problem for check in RULES.values() for problem in check(dashboard)]


def panels(dashboard: Json) -> list[Json]:
    """Return all panels, including those in collapsed rows."""
    found = dashboard.get("panels", [])
    return [inner for panel in found for inner in (panel, *panel.get("panels", []))]


def queries(dashboard: Json) -> Iterator[tuple[Json, int, str]]:
    """Yield panel, index and text of every query."""
    for panel in panels(dashboard):
        for index, target in enumerate(panel.get("targets", [])):
            yield panel, index, target["expr"]


def variables(dashboard: Json) -> dict[str, Json]:
    """Return the template variables by name."""
    return {variable["name"]: variable for variable in dashboard["templating"]["list"]}


@rule("template-datasource-rule")
def templated_datasource(dashboard: Json) -> Iterator[Problem]:
    """Require one data source variable with the expected name and label."""
    sources = [variable for variable in variables(dashboard).values() if variable["type"] == "datasource"]
    named = [(source["name"], source["label"], source["query"]) for source in sources]
    if named != [("datasource", "Data source", "prometheus")]:
        yield Problem("template-datasource-rule", dashboard["title"], f"data source variables are {named}")


def _scope_variable(name: str) -> Rule:
    def check(dashboard: Json) -> Iterator[Problem]:
        found = variables(dashboard).get(name, {})
        wanted = {"type": "query", "label": name.title(), "multi": True, "allValue": ".+"}
        wrong = [key for key, value in wanted.items() if found.get(key) != value]
        if found.get("datasource", {}).get("uid") not in DATASOURCES:
            wrong.append("datasource")
        if wrong:
            yield Problem(f"template-{name}-rule", dashboard["title"], f"{name}: wrong {', '.join(wrong)}")

    return check


rule("template-job-rule")(_scope_variable("job"))
rule("template-instance-rule")(_scope_variable("instance"))


@rule("template-label-promql-rule")
def label_queries(dashboard: Json) -> Iterator[Problem]:
    """Require a known function in every query variable."""
    for name, variable in variables(dashboard).items():
        asked = str(variable["query"])
        known = re.fullmatch(r"(label_names|label_values|metrics|query_result)\((.+)\)", asked)
        if variable["type"] == "query" and not known:
            yield Problem("template-label-promql-rule", dashboard["title"], f"{name}: {asked}")


@rule("template-on-time-change-reload-rule")
def reload_on_time_change(dashboard: Json) -> Iterator[Problem]:
    """Require query variables to be refreshed when the time range changes."""
    for name, variable in variables(dashboard).items():
        if variable["type"] == "query" and variable["refresh"] != 2:
            yield Problem("template-on-time-change-reload-rule", dashboard["title"], name)


@rule("panel-datasource-rule")
def panel_datasource(dashboard: Json) -> Iterator[Problem]:
    """Require the data source variable in every panel."""
    for panel in _of_kind(dashboard, WITH_QUERIES | {"heatmap", "bargauge"}):
        uids = [panel["datasource"]["uid"], *(target["datasource"]["uid"] for target in panel["targets"])]
        if not DATASOURCES.issuperset(uids):
            yield _at("panel-datasource-rule", dashboard, panel, f"uses {uids}")


@rule("panel-title-description-rule")
def title_and_description(dashboard: Json) -> Iterator[Problem]:
    """Require a title and a description of every panel (the linter checks only some types)."""
    for panel in panels(dashboard):
        if panel["type"] != "row" and not (panel.get("title") and panel.get("description")):
            yield _at("panel-title-description-rule", dashboard, panel, "lacks title or description")


@rule("panel-units-rule")
def known_units(dashboard: Json) -> Iterator[Problem]:
    """Require a known unit, unless values are mapped to words."""
    for panel in _of_kind(dashboard, WITH_UNITS):
        properties = [setting for override in _overrides(panel) for setting in override["properties"]]
        defaults = panel["fieldConfig"]["defaults"]
        mapped = defaults.get("mappings") or [
            setting for setting in properties if setting["id"] == "mappings"
        ]
        asked = [setting["value"] for setting in properties if setting["id"] == "unit"] or [
            defaults.get("unit")
        ]
        if not mapped and not UNITS.issuperset(asked):
            yield _at("panel-units-rule", dashboard, panel, f"units {asked}")


@rule("panel-no-targets-rule")
def has_queries(dashboard: Json) -> Iterator[Problem]:
    """Require a query in every panel."""
    for panel in _of_kind(dashboard, WITH_QUERIES | {"heatmap", "bargauge"}):
        if not panel.get("targets"):
            yield _at("panel-no-targets-rule", dashboard, panel, "has no query")


@rule("target-rate-interval-rule")
def rate_interval(dashboard: Json) -> Iterator[Problem]:
    """Require `$__rate_interval` in every rate, so that it has samples at every zoom level."""
    for panel, index, expr in queries(dashboard):
        for selector in selectors(expr):
            if selector.call in RATE_FUNCTIONS and selector.span != "$__rate_interval":
                yield _at(
                    "target-rate-interval-rule", dashboard, panel, f"[{selector.span}] in {expr}", index
                )


def _required_matcher(name: str) -> Rule:
    def check(dashboard: Json) -> Iterator[Problem]:
        for panel, index, expr in queries(dashboard):
            for selector in selectors(expr):
                if not _matches(selector, name):
                    text = f'{selector.metric} lacks {name}=~"${name}"'
                    yield _at(f"target-{name}-rule", dashboard, panel, text, index)

    return check


rule("target-job-rule")(_required_matcher("job"))
rule("target-instance-rule")(_required_matcher("instance"))


@rule("target-counter-agg-rule")
def counters_are_rated(dashboard: Json) -> Iterator[Problem]:
    """Require rate, irate or increase directly around every counter."""
    for panel, index, expr in queries(dashboard):
        for selector in selectors(expr):
            if selector.metric.endswith("_total") and not (
                selector.span and selector.call in COUNTER_FUNCTIONS
            ):
                yield _at(
                    "target-counter-agg-rule", dashboard, panel, f"{selector.metric} without rate", index
                )


@rule("uneditable-dashboard")
def uneditable(dashboard: Json) -> Iterator[Problem]:
    """Require dashboards to be read-only in Grafana."""
    if dashboard.get("editable", True):
        yield Problem("uneditable-dashboard", dashboard["title"], "is editable")


def _of_kind(dashboard: Json, kinds: set[str]) -> list[Json]:
    return [panel for panel in panels(dashboard) if panel["type"] in kinds]


def _overrides(panel: Json) -> list[Json]:
    found: list[Json] = panel["fieldConfig"].get("overrides", [])
    return found


def _matches(selector: Selector, name: str) -> bool:
    return any((m.label, m.operator, m.value) == (name, "=~", f"${name}") for m in selector.matchers)


def _at(name: str, dashboard: Json, panel: Json, text: str, index: int | None = None) -> Problem:
    return Problem(name, dashboard["title"], text, panel.get("title", ""), index)
