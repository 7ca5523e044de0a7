"""Every dashboard obeys the rules of grafana/dashboard-linter, and the suite's own."""

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest

from dashboards.lint import RULES, exclusions, lint, problems
from dashboards.lint.rules import panels, queries, variables
from sidecar.promql import selectors

Json = dict[str, Any]


@pytest.mark.parametrize("name", sorted(RULES))
def test_rule(name: str, dashboard: Json) -> None:
    assert [str(problem) for problem in problems(dashboard, name)] == []


def test_every_exclusion_is_still_needed_and_has_a_reason(all_dashboards: list[Json]) -> None:
    found = [problem for dashboard in all_dashboards for problem in lint(dashboard)]
    needless = [one for one in exclusions() if not one.reason or not any(one.covers(each) for each in found)]
    assert needless == []


def _break_expr(text: str) -> Any:
    def breaking(dashboard: Json) -> None:
        next(panel for panel in panels(dashboard) if panel.get("targets"))["targets"][0]["expr"] = text

    return breaking


def _break_variable(variable: str, **values: Any) -> Any:
    return lambda dashboard: variables(dashboard)[variable].update(values)


def _break_panel(key: str, value: Any) -> Any:
    def breaking(dashboard: Json) -> None:
        next(panel for panel in panels(dashboard) if panel["type"] == "timeseries")[key] = value

    return breaking


SCOPE = 'job=~"$job", instance=~"$instance"'
BREAKS = {
    "template-datasource-rule": _break_variable("datasource", name="prom"),
    "template-job-rule": _break_variable("job", multi=False),
    "template-instance-rule": _break_variable("instance", allValue=".*"),
    "template-label-promql-rule": _break_variable("job", query="up"),
    "template-on-time-change-reload-rule": _break_variable("job", refresh=1),
    "panel-datasource-rule": _break_panel("datasource", {"uid": "prometheus"}),
    "panel-title-description-rule": _break_panel("description", ""),
    "panel-units-rule": _break_panel("fieldConfig", {"defaults": {"unit": "parsecs"}, "overrides": []}),
    "panel-no-targets-rule": _break_panel("targets", []),
    "target-rate-interval-rule": _break_expr(f"rate(a_total{{{SCOPE}}}[5m])"),
    "target-job-rule": _break_expr('up{instance=~"$instance"}'),
    "target-instance-rule": _break_expr('up{job=~"$job"}'),
    "target-counter-agg-rule": _break_expr(f"a_total{{{SCOPE}}}"),
    "uneditable-dashboard": lambda dashboard: dashboard.update(editable=True),
}


@pytest.mark.parametrize("name", sorted(RULES))
def test_rule_finds_what_it_is_for(name: str, all_dashboards: list[Json]) -> None:
    broken = copy.deepcopy(all_dashboards[0])
    BREAKS[name](broken)
    assert {problem.rule for problem in lint(broken)} >= {name}


def test_titles_are_unique_and_short_enough_for_a_phone(dashboard: Json) -> None:
    titles = [panel["title"] for panel in panels(dashboard)]
    assert sorted(set(titles)) == sorted(titles)
    assert [title for title in titles if len(title) > 42] == []
    small = [panel["title"] for panel in panels(dashboard) if panel["gridPos"]["w"] <= 4]
    assert [title for title in small if len(title) > 20] == []


def test_panels_are_wide_enough_at_1280_pixels_and_do_not_overlap(dashboard: Json) -> None:
    least = {
        "stat": 3,
        "gauge": 4,
        "timeseries": 8,
        "heatmap": 8,
        "table": 8,
        "bargauge": 6,
        "state-timeline": 8,
    }
    taken: set[tuple[int, int]] = set()
    for panel in panels(dashboard):
        place = panel["gridPos"]
        assert place["w"] >= least.get(panel["type"], 4), panel["title"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert max(x for x, _ in cells) < 24
        assert taken.isdisjoint(cells), panel["title"]
        taken |= cells


def test_every_row_is_a_full_rectangle(dashboard: Json) -> None:
    area: dict[str, int] = {}
    heights: dict[str, set[int]] = {}
    row = ""
    for panel in panels(dashboard):
        place = panel["gridPos"]
        row = panel["title"] if panel["type"] == "row" else row
        area[row] = area.get(row, 0) + place["w"] * place["h"]
        heights.setdefault(row, set()).update((place["y"], place["y"] + place["h"]))
    gaps = {row: 24 * (max(ys) - min(ys)) - area[row] for row, ys in heights.items()}
    assert {row: cells for row, cells in gaps.items() if cells} == {}


def test_identities_are_stable_and_unique(dashboard: Json) -> None:
    ids = [panel["id"] for panel in panels(dashboard)]
    assert len(set(ids)) == len(ids)
    assert dashboard["uid"].startswith("posthub-")
    assert dashboard["timezone"] == "utc"
    assert "posthub" in dashboard["tags"]
    assert [link["tags"] for link in dashboard["links"]] == [["posthub"]]


def test_ref_ids_follow_the_order_of_the_queries(dashboard: Json) -> None:
    for panel in panels(dashboard):
        refs = [target["refId"] for target in panel.get("targets", [])]
        assert refs == [chr(ord("A") + index) for index in range(len(refs))]


def test_every_query_is_limited_to_the_chosen_environment(dashboard: Json) -> None:
    for panel, _, expr in queries(dashboard):
        for one in selectors(expr):
            summed = one.metric == "ALERTS" or ":" in one.metric
            limited = any(m.label == "environment" for m in one.matchers)
            assert summed or limited, f"{panel['title']}: {one.metric}"


def test_a_click_takes_along_where_one_looks(all_dashboards: list[Json]) -> None:
    overview = next(one for one in all_dashboards if one["uid"] == "posthub-overview")
    numbers = [panel for panel in panels(overview) if panel["type"] == "stat"]
    for panel in numbers:
        (link,) = panel["fieldConfig"]["defaults"]["links"]
        assert link["url"].partition("?")[2].split("&") == [
            "${__url_time_range}",
            "${datasource:queryparam}",
            "${environment:queryparam}",
        ], panel["title"]


def test_options_of_panels_name_no_variable(dashboard: Json) -> None:
    """Grafana compares most options literally: a filter of `$datasource` never matches anything."""
    for panel in panels(dashboard):
        assert "$" not in str(panel.get("options", {})), panel["title"]


# What is marked in the pictures, and the series whose value is the time of the mark.
MARKS = {
    "Backups": "backup_last_success_timestamp_seconds",
    "Verifications": "backup_last_verified_timestamp_seconds",
    "Drills": "backup_last_drill_timestamp_seconds",
}


def test_deploys_alerts_backups_and_verifications_are_marked(dashboard: Json) -> None:
    marks = {one["name"]: one for one in dashboard["annotations"]["list"]}
    assert marks.keys() == {"Deploys", "Alerts", *MARKS}
    assert [one.metric for one in selectors(marks["Alerts"]["expr"])] == ["ALERTS"]
    for name, metric in MARKS.items():
        assert [one.metric for one in selectors(marks[name]["expr"])] == [metric]
        # Grafana expects milliseconds.
        assert marks[name]["expr"].startswith("max by (database) (")
        assert marks[name]["expr"].endswith(" * 1000")
        assert marks[name]["useValueForTime"]


# Of each choice at the top, the metric and the label whose values it offers, by dashboard where they differ.
CHOICES = {
    "environment": ("up", "environment"),
    "job": ("up", "job"),
    "instance": ("up", "instance"),
    "queue": ("celery_queue_length", "queue_name"),
    "task": ("celery_tasks_total", "task"),
    "host": ("celery_worker_up", "hostname"),
    "posthub-backup database": ("backup_age_seconds", "database"),
    "posthub-postgres database": ("pg_stat_database_numbackends", "datname"),
}
LABEL_VALUES = re.compile(r"label_values\((\w+)(?:\{.*\})?, (\w+)\)")


def test_choices_offer_what_there_is(dashboard: Json) -> None:
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            found = LABEL_VALUES.fullmatch(variable["definition"])
            name = variable["name"]
            assert found is not None, name
            assert found.groups() == (CHOICES.get(name) or CHOICES[f"{dashboard['uid']} {name}"])


def test_tiles_without_a_value_show_a_word(dashboard: Json) -> None:
    for panel in panels(dashboard):
        if panel["type"] in ("stat", "gauge", "bargauge"):
            assert panel["fieldConfig"]["defaults"].get("noValue"), panel["title"]


def test_tiles_show_the_newest_value_and_never_an_old_one(dashboard: Json) -> None:
    for panel in panels(dashboard):
        if panel["type"] in ("stat", "gauge", "bargauge"):
            assert panel["options"]["reduceOptions"]["calcs"] == ["last"], panel["title"]
            assert all(target["legendFormat"] != "__auto" for target in panel["targets"]), panel["title"]


def test_limits_are_readable_while_everything_is_zero(dashboard: Json) -> None:
    for panel in panels(dashboard):
        defaults = panel.get("fieldConfig", {}).get("defaults", {})
        if panel["type"] != "timeseries" or defaults.get("min") is None or defaults.get("max") is not None:
            continue
        top = defaults["custom"]["axisSoftMax"]
        drawn = defaults["custom"].get("thresholdsStyle", {}).get("mode", "off") != "off"
        limits = [step["value"] for step in defaults["thresholds"]["steps"] if step["value"]] if drawn else []
        assert 0 < top <= max(1.0, 2 * max(limits, default=0)), panel["title"]
        assert all(limit <= 0.9 * top for limit in limits), panel["title"]


def test_no_two_series_share_a_colour(dashboard: Json) -> None:
    """A palette by name gives `failed` and `succeeded` the same colour; by order, the colours differ."""
    for panel in panels(dashboard):
        if panel["type"] != "timeseries":
            continue
        assert panel["fieldConfig"]["defaults"]["color"]["mode"] == "palette-classic", panel["title"]
        fixed = [
            one["value"]["fixedColor"]
            for override in panel["fieldConfig"].get("overrides", [])
            for one in override["properties"]
            if one["id"] == "color"
        ]
        assert len(set(fixed)) == len(fixed), panel["title"]
    states = [panel for panel in panels(dashboard) if panel["title"] in ("Tasks by state", "Celery Tasks")]
    for panel in states:
        named = {override["matcher"]["options"] for override in panel["fieldConfig"]["overrides"]}
        assert named >= {
            "sent",
            "received",
            "started",
            "succeeded",
            "failed",
            "retried",
            "revoked",
            "rejected",
        }


def test_instances_are_those_of_the_dashboards_jobs(dashboard: Json) -> None:
    """With All jobs, `$job` matches every job: another instance would empty the dashboard."""
    (instance,) = (one for one in dashboard["templating"]["list"] if one["name"] == "instance")
    (job,) = (one for one in dashboard["templating"]["list"] if one["name"] == "job")
    (own,) = re.findall(r'job=~"([^$"]+)"', str(job["query"]))
    assert f'job=~"{own}"' in str(instance["query"])


def test_links_and_switches_are_visible(dashboard: Json) -> None:
    assert "inControlsMenu" not in json.dumps(dashboard)


def test_narrow_tables_show_all_columns(dashboard: Json) -> None:
    """At 1440 pixels; Grafana's columns are at least 150 pixels wide unless configured otherwise."""
    for panel in panels(dashboard):
        if panel["type"] == "table":
            columns = len(panel["transformations"][-1]["options"]["renameByName"])
            least = panel["fieldConfig"]["defaults"]["custom"]["minWidth"]
            assert columns * least <= panel["gridPos"]["w"] * 1440 / 24 - 40, panel["title"]


def test_the_schema_is_known_to_the_grafana_that_is_shipped(dashboard: Json) -> None:
    """Grafana 12.1 knows schema version 41, 13.2 version 42: change both together."""
    newest = {"12.1.1": 41, "13.2.3": 42}
    compose = (Path(__file__).parents[2] / "docker-compose.prod.yml").read_text(encoding="utf-8")
    (image,) = re.findall(r"image: grafana/grafana:(\S+)", compose)
    assert dashboard["schemaVersion"] <= newest[image]
