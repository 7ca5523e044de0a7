"""The probe behind the backup curves of ``./ops bench growth``."""

from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

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


# The modules of the checkout that the issue of these curves compares with, as far as a probe uses them.
OLDER = {
    "backup/__init__.py": "",
    "backup/cli/common.py": """
        import sys
        from backup.reading import read
        def find(wiring, database, backup_id, *, strict=False):
            return read(wiring, [database])
    """,
    "backup/reading.py": """
        import json, types
        def read(wiring, databases):
            found = [json.loads(wiring.store.get(each.key)) for each in wiring.store.walk("shop/")
                     if each.key.endswith("manifest.json")]
            assert {each["format"] for each in found} == {1}
            return types.SimpleNamespace(history=lambda _: types.SimpleNamespace(backups=found))
    """,
    "backup/service/state.py": """
        import types
        def new_state(wiring):
            return types.SimpleNamespace(refresh=lambda: None)
    """,
    "backup/settings.py": """
        class BackupSettings:
            load = staticmethod(dict)
    """,
    "backup/wiring.py": """
        import dataclasses
        @dataclasses.dataclass(frozen=True)
        class Wiring:
            store: object = None
        def wire(settings):
            return Wiring()
    """,
    "backup/store.py": """
        import dataclasses, datetime
        @dataclasses.dataclass
        class ObjectInfo:
            key: str; size: int; modified: object; version: str
        class MemoryStore:
            def __init__(self, fault):
                self.objects, self.fault = {}, fault
            def put(self, key, data):
                self.objects[key] = (data, datetime.datetime.now())
            def get(self, key):
                self.fault("get", key)
                return self.objects[key][0]
        RetryPolicy = dict
        def RetryingStore(store, policy):
            return store
    """,
}


def test_the_probe_measures_a_checkout_with_other_modules(tmp_path: Path) -> None:
    for name, text in OLDER.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(dedent(text))
    costs = {cost.what: cost.value for cost in probed(tmp_path, "backups", 3)}
    assert (costs["list, requests"], costs["latest, requests"]) == (4, 8)
    assert probed(tmp_path, "manifests", 3)


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
        raise OpsError("run exited with 1", hint="")

    assert _curves("tables", [1], {"today": fail}) == []
    assert "today: run exited with 1" in capsys.readouterr().err
