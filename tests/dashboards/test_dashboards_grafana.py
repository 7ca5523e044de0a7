"""How Grafana's own library renders every panel, in production's version and in the newest."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.dashboards.test_dashboards_panels import expected

# As values.yml writes the labels of a series.
PAIR = re.compile(r"(\w+)=(.*?)(?= \w+=|$)")
FOLDER = Path(__file__).parent / "grafana"
INSTALL = "npm ci --prefix tests/dashboards/grafana"


def check(library: str, *files: Path | str) -> dict[str, Any]:
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


@pytest.fixture
def answers(tmp_path: Path) -> Path:
    """The answer of each query in the simulated stack, in the form that the check reads."""
    found: dict[str, Any] = {}
    for name, situations in expected().items():
        uid, title, query = name.split(": ")
        panel = found.setdefault(f"posthub-{uid}", {}).setdefault(title, {})
        for situation, series in situations.items():
            panel.setdefault(situation, {})[query] = [
                {"labels": dict(PAIR.findall(labels)), "value": value} for labels, value in series.items()
            ]
    file = tmp_path / "answers.json"
    file.write_text(json.dumps(found), encoding="utf-8")
    return file


@pytest.mark.parametrize("library", ["grafana-data-pinned", "grafana-data-newest"])
def test_grafana_shows_the_answers_of_a_busy_and_an_idle_stack(
    library: str, checkout: Path, answers: Path
) -> None:
    """Every tile has a text, every table has its columns, and no two series share a colour or a name."""
    boards = sorted((checkout / "dashboards" / "json").glob("*.json"))
    found = check(library, "--answers", answers, *boards)
    assert found["problems"] == []


def test_it_notices_a_column_and_a_series_that_are_lost(
    checkout: Path, answers: Path, tmp_path: Path
) -> None:
    board = json.loads((checkout / "dashboards" / "json" / "posthub-celery.json").read_text(encoding="utf-8"))
    by_title = {panel["title"]: panel for panel in board["panels"]}
    by_title["Queues"]["transformations"][-1]["options"]["renameByName"]["Value #A"] = "Length"
    by_title["Failures by exception"]["targets"][0]["legendFormat"] = "{{exception}}"
    broken = tmp_path / "broken.json"
    broken.write_text(json.dumps(board), encoding="utf-8")
    named = {
        text.split(" (")[0] for text in check("grafana-data-newest", "--answers", answers, broken)["problems"]
    }
    assert named == {"posthub-celery / Queues", "posthub-celery / Failures by exception"}


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
