"""How Grafana's own library renders every panel, in production's version and in the newest."""

import json
import math
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from dashboards.live_check import committed
from dashboards.render.panel import judge
from dashboards.render.theme import THEMES
from stack import web
from stack.web.node import search_path
from tests import npm
from tests.dashboards.test_dashboards_panels import expected

# As values.yml writes the labels of a series.
PAIR = re.compile(r"(\w+)=(.*?)(?= \w+=|$)")
FOLDER = Path(__file__).parent / "grafana"
LIBRARIES = pytest.mark.parametrize("library", ["grafana-data-pinned", "grafana-data-newest"])
# Besides each panel's limits, just below and above.
NUMBERS = (
    *(
        0,
        2e-6,
        0.0004,
        0.0042,
        0.05,
        0.2,
        0.5,
        0.999,
        1,
        1.5,
        2.25,
        9.99,
        10,
        59.96,
        60,
        61,
        99.5,
        100,
        999,
        1000,
        1536,
    ),
    *(3599, 3600, 12_345, 86_400, 93_600, 604_800, 1_234_567, 31_536_000, 4e7, 5e9, 1e13),
    *(-1e-6, -0.02, -3.195, -61, -1e6, math.nan, math.inf, -math.inf),
)


@pytest.fixture(scope="module", autouse=True)
def packages() -> None:
    """Grafana's own library."""
    if web.why_not() is not None:
        pytest.skip(f"Grafana's library needs Node.js: {web.why_not()}")
    npm.install(FOLDER)


def run(script: str, library: str, *files: Path | str) -> dict[str, Any]:
    done = subprocess.run(
        ["node", script, library, *map(str, files)],
        cwd=FOLDER,
        env={**os.environ, "PATH": search_path()},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def check(library: str, *files: Path | str) -> dict[str, Any]:
    return run("check.cjs", library, *files)


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


@LIBRARIES
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


@LIBRARIES
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


def grids() -> dict[str, dict[str, list[float]]]:
    """The values to be shown, by dashboard and panel: the same for all, and around the panel's limits."""
    found: dict[str, dict[str, list[float]]] = {}
    for board in committed():
        for panel in board["panels"]:
            if defaults := panel.get("fieldConfig", {}).get("defaults"):
                steps = [one["value"] for one in defaults.get("thresholds", {}).get("steps", [])]
                limits = [step + by for step in steps if step is not None for by in (-1e-6, 0, 1e-6)]
                # JavaScript writes smaller numbers in another notation.
                found.setdefault(board["uid"], {})[panel["title"]] = [
                    *NUMBERS,
                    *(one for one in limits if one == 0 or abs(one) >= 1e-6),
                ]
    return found


@LIBRARIES
def test_our_pictures_show_grafanas_texts_and_colours(library: str, checkout: Path, tmp_path: Path) -> None:
    shown = grids()
    asked = {
        "panels": {
            uid: {
                title: [one if math.isfinite(one) else str(one) for one in numbers]
                for title, numbers in panels.items()
            }
            for uid, panels in shown.items()
        },
        "colors": sorted(THEMES["dark"].named),
    }
    file = tmp_path / "values.json"
    file.write_text(json.dumps(asked), encoding="utf-8")
    found = run("display.cjs", library, file, *sorted((checkout / "dashboards" / "json").glob("*.json")))
    compared = 0
    for board in committed():
        for panel in board["panels"]:
            place = f"{board['uid']} / {panel['title']}"
            for mode, grafanas in found["panels"].get(place, {}).items():
                defaults, numbers = panel["fieldConfig"]["defaults"], shown[board["uid"]][panel["title"]]
                ours = [judge(number, defaults, THEMES[mode]) for number in numbers]
                texts = [(one.text, text) for one, (text, _) in zip(ours, grafanas, strict=True)]
                # Grafana writes "∞undefined req/s" for an infinite rate.
                assert [pair for pair in texts if pair[0] != pair[1] and "undefined" not in pair[1]] == [], (
                    place
                )
                if panel["type"] in ("stat", "gauge", "bargauge"):
                    known = [index for index, number in enumerate(numbers) if not math.isnan(number)]
                    assert [ours[at].color for at in known] == [grafanas[at][1] for at in known], place
                compared += len(numbers)
    assert compared > 10_000
    for mode, theme in THEMES.items():
        assert found["named"][mode] == theme.named
        assert library != "grafana-data-pinned" or tuple(found["palette"][mode]) == theme.series
