"""The call to a dead man's switch."""

import logging
from collections.abc import Iterator
from http import HTTPStatus

import pytest

from sidecar import deadman
from sidecar.web import Request, Response, WebServer


class Switch:
    """A dead man's switch that refuses the first calls."""

    def __init__(self) -> None:
        self.refusals = 0
        self.texts: list[str] = []
        self.server = WebServer("127.0.0.1", 0, {"/secret": self._take}, posts={"/secret": self._take})
        self.url = f"http://127.0.0.1:{self.server.port}/secret"

    def _take(self, request: Request) -> Response:
        self.texts.append(request.body.decode())
        self.refusals -= 1
        return Response(b"", status=HTTPStatus.BAD_GATEWAY if self.refusals >= 0 else HTTPStatus.OK)


@pytest.fixture
def switch() -> Iterator[Switch]:
    one = Switch()
    with one.server:
        yield one


@pytest.mark.parametrize(
    ("refusals", "accepted", "pauses"), [(0, True, []), (2, True, [0, 1]), (3, False, [0, 1])]
)
def test_three_attempts(switch: Switch, refusals: int, accepted: bool, pauses: list[float]) -> None:
    paused: list[float] = []
    switch.refusals = refusals
    assert deadman.call(switch.url, sleep=paused.append) is accepted
    assert paused == pauses
    assert len(switch.texts) == min(refusals + 1, 3)


def test_a_reason_is_sent_and_cut(switch: Switch) -> None:
    assert deadman.call(switch.url, "x" * 5000, name="failure")
    assert switch.texts == ["x" * deadman.LONGEST_TEXT]


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/secret", "nonsense-secret"])
def test_a_failure_is_logged_without_the_url(url: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert not deadman.call(url, name="start", sleep=lambda _: None)
    assert caplog.text.count("call=start") == deadman.ATTEMPTS
    assert "secret" not in caplog.text
