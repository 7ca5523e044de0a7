"""The frontend in real use: Chromium, Caddy, gunicorn, workers, beat, Prometheus and a verified backup, all real."""

import re
from typing import Any

import pytest

from stack.web.node import FRONTEND

pytestmark = [pytest.mark.timeout(1000), pytest.mark.xdist_group("frontend")]

SCENARIOS = re.findall(
    r"^  async '([^']+)'", (FRONTEND / "e2e/scenarios.mjs").read_text(encoding="utf-8"), re.MULTILINE
)
# In these scenarios the browser receives errors on purpose, and logs each to its console.
REFUSED = {
    "a wrong password is reported and the form keeps its values",
    "channels are created, rejected, changed and deleted",
    "a used-up quota is reported for images and videos",
    "being offline is shown until the connection returns",
    "an unavailable API is reported until it answers again",
    "an expired session leads to the sign-in page and back",
    "an expired session loses no text",
    "a save without an answer is not repeated",
    "a rejected request is reported, and the text is kept",
    "a screen that does not load is reported, and loaded with the current version",
    "a page of the list that no longer exists leads to the first one",
}
FIRST_LOAD = 200_000


@pytest.mark.parametrize("name", SCENARIOS)
def test_scenario(story: dict[str, Any], name: str) -> None:
    outcome = next(one for one in story["scenarios"] if one["name"] == name)
    assert outcome["ok"], outcome["error"]


def test_the_console_shows_no_error(story: dict[str, Any]) -> None:
    wrong = [one for one in story["complaints"] if not (one["network"] and one["scenario"] in REFUSED)]
    assert wrong == []


def test_there_are_no_requests_to_other_origins(story: dict[str, Any]) -> None:
    assert story["foreign"] == []


def test_the_first_load_is_small(story: dict[str, Any]) -> None:
    loads = {one["name"]: one["facts"]["firstLoad"] for one in story["scenarios"] if one["facts"]}
    assert len(loads) == 2, "one of an anonymous visitor, one of a signed-in user"
    assert all(20_000 < size <= FIRST_LOAD for size in loads.values()), loads
