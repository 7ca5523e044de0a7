"""The Prometheus client, with replies of real servers and of other servers at its address."""

import json
from collections.abc import Iterator
from http import HTTPStatus
from itertools import permutations
from typing import Any

import pytest

from sidecar import OpsError
from sidecar.prometheus import NoReplyError, Prometheus
from sidecar.web import Request, Response, WebServer


class Replies:
    """Answers each path with a fixed document."""

    def __init__(self) -> None:
        self.documents: dict[str, bytes] = {}
        self.status = HTTPStatus.OK
        self.server = WebServer("127.0.0.1", 0, {}, guard=self._reply)
        self.url = f"http://127.0.0.1:{self.server.port}"

    def say(self, path: str, data: Any) -> None:
        self.documents[f"/api/v1/{path}"] = json.dumps({"status": "success", "data": data}).encode()

    def _reply(self, request: Request) -> Response:
        return Response(self.documents[request.path], status=self.status)


@pytest.fixture
def replies() -> Iterator[Replies]:
    one = Replies()
    with one.server:
        yield one


def test_values_of_an_instant_query(replies: Replies) -> None:
    series = [{"metric": {"job": job}, "value": [1.5, value]} for job, value in (("a", "2"), ("b", "NaN"))]
    replies.say("query", {"resultType": "vector", "result": series})
    prometheus = Prometheus(replies.url)
    assert [(one.labels, one.times) for one in prometheus.instant("up")] == [
        ({"job": "a"}, (1.5,)),
        ({"job": "b"}, (1.5,)),
    ]
    assert prometheus.value("up") == 2
    assert prometheus.by_label("up", "job")["a"] == 2
    replies.say("query", {"resultType": "vector", "result": []})
    assert prometheus.value("up") is None


def test_a_job_is_as_healthy_as_its_worst_target(replies: Replies) -> None:
    found = [("a", "up"), ("a", "down"), ("a", "up"), ("b", "up"), ("c", "unknown")]
    replies.say(
        "targets", {"activeTargets": [{"labels": {"job": job}, "health": health} for job, health in found]}
    )
    assert Prometheus(replies.url).targets() == {"a": "down", "b": "up", "c": "unknown"}


@pytest.mark.parametrize("order", list(permutations(("down", "unknown", "up"), 2)))
def test_the_worst_is_down_then_unknown_in_whatever_order(replies: Replies, order: tuple[str, str]) -> None:
    targets = [{"labels": {"job": "a"}, "health": health} for health in order]
    replies.say("targets", {"activeTargets": targets})
    assert Prometheus(replies.url).targets() == {"a": "down" if "down" in order else "unknown"}


@pytest.mark.parametrize("states", [("firing", "pending"), ("pending", "firing")])
def test_an_alert_fires_when_one_of_its_series_does(replies: Replies, states: tuple[str, str]) -> None:
    replies.say("alerts", {"alerts": [{"labels": {"alertname": "A"}, "state": state} for state in states]})
    assert Prometheus(replies.url).alerts() == {"A": "firing"}


def test_a_refused_expression_is_an_error_with_its_reason(replies: Replies) -> None:
    replies.documents["/api/v1/query"] = b'{"status": "error", "error": "parse error"}'
    replies.status = HTTPStatus.BAD_REQUEST
    with pytest.raises(OpsError, match=r"Prometheus refused up .: parse error") as raised:
        Prometheus(replies.url).instant("up {")
    assert not isinstance(raised.value, NoReplyError)


@pytest.mark.parametrize("body", [b"<html>log in</html>", b"[]", b"{}"])
def test_another_server_in_its_place_is_not_prometheus(replies: Replies, body: bytes) -> None:
    replies.documents["/api/v1/query"] = body
    with pytest.raises(NoReplyError, match="does not answer"):
        Prometheus(replies.url).instant("up")


def test_no_server_is_an_error_without_credentials() -> None:
    with pytest.raises(NoReplyError, match="does not answer") as raised:
        Prometheus("http://me:hidden@127.0.0.1:1").instant("up")
    assert "hidden" not in raised.value.message
