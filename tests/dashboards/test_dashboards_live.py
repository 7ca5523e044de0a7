"""Detection of empty panels; tests/e2e applies it to the live stack."""

import time

import pytest

from dashboards.lint.rules import panels
from dashboards.live_check import MAY_BE_EMPTY, OPTIONAL_PARTS, Empty, committed, empty_queries
from dashboards.resolve import Scope
from sidecar.prometheus import Prometheus
from tests.dashboards.prometheus_double import PrometheusDouble

SPAN = 300


def _scope() -> Scope:
    now = time.time()
    return Scope(now - SPAN, now, 15)


def test_at_most_five_panels_may_be_empty_and_each_has_a_reason() -> None:
    there = {(dashboard["uid"], panel["title"]) for dashboard in committed() for panel in panels(dashboard)}
    assert len(MAY_BE_EMPTY) <= 5
    assert MAY_BE_EMPTY.keys() <= there
    assert all(MAY_BE_EMPTY.values())


def test_panels_of_an_optional_part_may_be_empty() -> None:
    exprs = [
        each["expr"] for board in committed() for panel in panels(board) for each in panel.get("targets", [])
    ]
    for prefix in OPTIONAL_PARTS:
        assert any(prefix in expr for expr in exprs)
        assert Empty("posthub-backup", "Not stored", "A", f"max({prefix}seconds)").excused
    assert not Empty("posthub-backup", "Not stored", "A", "max(backup_age_seconds)").excused


@pytest.mark.parametrize("mode", ["empty", "nan"])
def test_an_empty_panel_is_found(mode: str) -> None:
    with PrometheusDouble(mode) as double:
        found = empty_queries(Prometheus(double.url), _scope(), committed()[:1])
    asked = sum(len(panel.get("targets", [])) for panel in panels(committed()[0]))
    assert len(found) == asked
    assert "no data" in str(found[0])


def test_a_panel_with_data_is_not_reported() -> None:
    with PrometheusDouble() as double:
        assert empty_queries(Prometheus(double.url), _scope(), committed()[:2]) == []
