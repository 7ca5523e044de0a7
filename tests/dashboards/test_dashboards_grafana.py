"""How Grafana's own library renders every panel, in production's version and in the newest."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parent / "grafana"
INSTALL = "npm ci --prefix tests/dashboards/grafana"


def check(library: str, *files: Path) -> dict[str, Any]:
    if shutil.which("node") is None or not (FOLDER / "node_modules" / library).is_dir():
        pytest.skip(f"Grafana's library is not installed; with Node 20: {INSTALL}")
    done = subprocess.run(
        ["node", "check.cjs", library, *map(str, files)],
        cwd=FOLDER,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("library", ["grafana-data-pinned", "grafana-data-newest"])
def test_grafana_shows_every_panel_as_intended(library: str, checkout: Path) -> None:
    found = check(library, *sorted((checkout / "dashboards" / "json").glob("*.json")))
    assert found["problems"] == []
    assert found["panels"] > 150


def test_it_notices_an_empty_tile_an_old_value_and_a_shared_colour(checkout: Path, tmp_path: Path) -> None:
    board = json.loads((checkout / "dashboards" / "json" / "posthub-celery.json").read_text(encoding="utf-8"))
    by_title = {panel["title"]: panel for panel in board["panels"]}
    by_title["Failed tasks"]["fieldConfig"]["defaults"]["mappings"] = []
    by_title["Failed tasks"]["options"]["reduceOptions"]["calcs"] = ["lastNotNull"]
    by_title["Queue length"]["fieldConfig"]["defaults"]["color"]["mode"] = "palette-classic-by-name"
    broken = tmp_path / "broken.json"
    broken.write_text(json.dumps(board), encoding="utf-8")
    named = {text.split(" (")[0] for text in check("grafana-data-newest", broken)["problems"]}
    assert named == {"posthub-celery / Failed tasks", "posthub-celery / Queue length"}


def test_the_pinned_library_is_that_of_the_shipped_grafana(checkout: Path) -> None:
    pinned = json.loads((FOLDER / "package.json").read_text(encoding="utf-8"))["dependencies"][
        "grafana-data-pinned"
    ]
    compose = (checkout / "docker-compose.prod.yml").read_text(encoding="utf-8")
    assert f"image: grafana/grafana:{pinned.rpartition('@')[2]}\n" in compose
