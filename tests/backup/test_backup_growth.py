"""The probe behind the backup curves of ``./ops bench growth``."""

from collections.abc import Callable

from bench.exporter.subjects import ROOT
from bench.growth.backup import CURVES, probed
from bench.growth.probe import LATENCY, PROBES


def test_the_probe_measures_this_checkout() -> None:
    costs = {cost.what: cost.value for cost in probed(ROOT, "backups", 40)}
    assert costs["list, requests"] == 1 + 2 * 40
    assert costs["latest, requests"] < 10
    # Many at a time: one after the other would take the full delay for each request.
    assert costs["latest, 30 ms from the store, s"] > LATENCY
    assert costs["refresh with nothing changed, CPU ms"] >= 0


def test_each_curve_has_a_probe() -> None:
    assert set(CURVES) == set(PROBES)
    probes: dict[str, Callable[[int], dict[str, float]]] = PROBES
    assert all(probes.values())


def test_a_checkout_that_cannot_be_measured_has_no_costs() -> None:
    assert probed(ROOT / "docs", "no such curve", 1) == []
