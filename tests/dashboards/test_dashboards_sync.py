"""The committed JSON is what the code builds, today and on every machine."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from grafana_foundation_sdk.cog import plugins
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

from dashboards import build, catalogue, out_of_sync


def test_the_committed_files_are_what_the_code_builds() -> None:
    assert out_of_sync() == [], "run ./ops dashboards build and commit"


def test_every_file_is_read_by_the_sdk_without_loss(dashboard: dict[str, object]) -> None:
    plugins.register_default_plugins()
    assert (
        catalogue.visible(json.loads(json.dumps(Dashboard.from_json(dashboard), cls=JSONEncoder)))
        == dashboard
    )


def test_another_hash_seed_builds_the_same_bytes(checkout: Path, tmp_path: Path) -> None:
    code = f"import pathlib, dashboards; dashboards.build(pathlib.Path({str(tmp_path)!r}))"
    environment = {
        **os.environ,
        "PYTHONHASHSEED": "4711",
        "TZ": "Pacific/Auckland",
        "PYTHONPATH": str(checkout),
    }
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
    assert out_of_sync(tmp_path) == []


def test_build_writes_what_is_missing_and_drops_what_is_left_over(tmp_path: Path) -> None:
    (tmp_path / "posthub-gone.json").write_text("{}")
    everything = sorted([*catalogue.built(), "posthub-gone.json"])
    assert build(tmp_path) == everything
    assert build(tmp_path) == []
    assert not (tmp_path / "posthub-gone.json").exists()


@pytest.mark.parametrize("change", ["edited", "missing"])
def test_a_difference_is_named(tmp_path: Path, change: str) -> None:
    build(tmp_path)
    path = tmp_path / "posthub-celery.json"
    if change == "edited":
        path.write_text(path.read_text().replace("Queue length", "Queue size"))
    else:
        path.unlink()
    assert out_of_sync(tmp_path) == ["posthub-celery.json"]
