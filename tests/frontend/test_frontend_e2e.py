"""The frontend as people use it: Chromium, Caddy, gunicorn, workers, beat, Prometheus and a proven backup, all real."""

import re
from typing import Any

import pytest

from stack.web.node import FRONTEND

pytestmark = [pytest.mark.timeout(1000), pytest.mark.xdist_group("frontend")]

SCENARIOS = re.findall(
    r"^  async '([^']+)'", (FRONTEND / "e2e/scenarios.mjs").read_text(encoding="utf-8"), re.MULTILINE
)
# Here the browser meets refusals because the scenario wants it to, and writes each into its console.
REFUSED = {
    "a wrong password is told and nothing is lost",
    "channels are made, refused, changed and deleted",
    "offline is said, and ends by itself",
    "an API that is away is told, and found again",
    "a session that ended leads to the door and back",
    "a session that ended while one wrote loses no word",
    "what was saved without an answer is not saved twice",
    "what is refused is told, and nothing that was written is lost",
    "a screen that does not load is told, and loaded with the page of now",
    "a page that is no more leads to the first one",
}
FIRST_LOAD = 200_000


@pytest.mark.parametrize("name", SCENARIOS)
def test_scenario(story: dict[str, Any], name: str) -> None:
    outcome = next(one for one in story["scenarios"] if one["name"] == name)
    assert outcome["ok"], outcome["error"]


def test_the_console_has_no_complaint(story: dict[str, Any]) -> None:
    wrong = [one for one in story["complaints"] if not (one["network"] and one["scenario"] in REFUSED)]
    assert wrong == []


def test_nothing_is_asked_of_another_origin(story: dict[str, Any]) -> None:
    assert story["foreign"] == []


def test_the_first_load_is_small(story: dict[str, Any]) -> None:
    loads = {one["name"]: one["facts"]["firstLoad"] for one in story["scenarios"] if one["facts"]}
    assert len(loads) == 2, "of a stranger, and of somebody who is signed in"
    assert all(20_000 < size <= FIRST_LOAD for size in loads.values()), loads
