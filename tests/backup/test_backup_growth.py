"""The probe behind the backup curves of ``./ops bench growth``."""

from collections.abc import Callable
from pathlib import Path

import pytest

from bench.exporter.measure import Workshop
from bench.exporter.subjects import ROOT
from bench.growth import commands, renders
from bench.growth.backup import CURVES, probed
from bench.growth.command import _curves
from bench.growth.exporter import Cost
from bench.growth.probe import LATENCY, PROBES
from sidecar import OpsError


def test_the_probe_measures_this_checkout() -> None:
    costs = {cost.what: cost.value for cost in probed(ROOT, "backups", 40)}
    assert costs["list, requests"] == 1 + 2 * 40
    assert costs["latest, requests"] < 10
    # Many at a time: one after the other would take the full delay for each request.
    assert costs["latest, 30 ms from the store, s"] > LATENCY
    assert costs["refresh with nothing changed, CPU ms"] >= 0


def test_each_probe_has_a_curve() -> None:
    rendered = {f"rendered-{name}" for name in renders.PROBES}
    assert set(CURVES) == set(PROBES) | set(commands.CURVES) | rendered
    probes: dict[str, Callable[[int], dict[str, float]]] = PROBES
    assert all(probes.values())


@pytest.mark.parametrize("name", renders.PROBES)
def test_what_a_rendering_costs(name: str) -> None:
    """In this checkout: a probe that cannot use its code prints nothing."""
    costs = CURVES[f"rendered-{name}"][2](Workshop(Path()), ROOT, 3)
    assert costs
    assert all(0 < cost.value < 1_000 for cost in costs)


def test_a_checkout_that_cannot_be_measured_has_no_costs() -> None:
    assert probed(ROOT / "docs", "no such curve", 1) == []


def test_the_curves_of_commands_measure_this_checkout(tmp_path: Path) -> None:
    """With a store in the first format, so that any checkout reads it."""
    costs = {cost.what: cost.value for cost in commands.commands(Workshop(tmp_path), ROOT, 3)}
    assert 3 < costs["list, requests"] < 20
    assert 0 < costs["restore latest --dry-run, requests"] < 20
    assert costs["prune --dry-run, CPU s"] > 0


def test_a_subject_that_fails_has_no_costs(capsys: pytest.CaptureFixture[str]) -> None:
    def fail(_: int) -> list[Cost]:
        raise OpsError("run ended with 1", hint="")

    assert _curves("tables", [1], {"today": fail}) == []
    assert "today: run ended with 1" in capsys.readouterr().err
