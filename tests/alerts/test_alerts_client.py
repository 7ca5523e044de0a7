"""Alertmanager's client: the requests that it sends, and how it reads the responses. No Alertmanager runs."""

import json
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
import requests
from click.testing import CliRunner

from alerts import alertmanager
from alerts.alertmanager import TIMEOUT, Alertmanager, matcher
from alerts.cli import main
from alerts.login import Login
from sidecar import OpsError


class FakeRequest:
    """Takes the place of a session's `request`: records each call and returns the given answer."""

    def __init__(self, answer: Any = None, status: int = 200) -> None:
        self.calls: list[tuple[str, str, Any]] = []
        self._answer, self._status = answer, status

    def __call__(self, method: str, url: str, *, json: Any, timeout: float) -> Any:
        assert timeout == TIMEOUT
        self.calls.append((method, url, json))
        return SimpleNamespace(
            status_code=self._status, content=self._answer, text="no such label", json=lambda: self._answer
        )


def client(monkeypatch: pytest.MonkeyPatch, request: Any, login: Login | None = None) -> Alertmanager:
    alertmanager_client = Alertmanager("http://h:9093/", login)
    monkeypatch.setattr(alertmanager_client._session, "request", request)
    return alertmanager_client


@pytest.mark.parametrize(
    ("text", "name", "value", "equal", "regex"),
    [
        ("severity=warning", "severity", "warning", True, False),
        ("queue_name=~ai.*", "queue_name", "ai.*", True, True),
        ("host!=a", "host", "a", False, False),
        ("host!~a|b", "host", "a|b", False, True),
        ("HostDown", "alertname", "HostDown", True, False),
        ("query=a=b", "query", "a=b", True, False),
    ],
)
def test_a_matcher_means_what_is_written(text: str, name: str, value: str, equal: bool, regex: bool) -> None:
    assert matcher(text) == {"name": name, "value": value, "isEqual": equal, "isRegex": regex}


def a_silence(number: int, state: str, **more: Any) -> dict[str, Any]:
    return {
        "id": str(number),
        "status": {"state": state},
        "matchers": [{"name": "a", "value": "b", "isRegex": False, **more}],
        "endsAt": f"2026-11-30T0{9 - number}:00:00Z",
        "createdBy": "me",
        "comment": "planned",
    }


def test_expired_silences_are_not_listed_and_the_next_to_end_comes_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    listed = [
        a_silence(1, "active", isEqual=False),
        a_silence(2, "expired"),
        a_silence(3, "pending", isEqual=True, isRegex=True),
        a_silence(4, "active", isEqual=False, isRegex=True),
        a_silence(5, "active"),
    ]
    found = client(monkeypatch, FakeRequest(listed)).silences()
    assert [(one.id, one.state, *one.matchers) for one in found] == [
        ("5", "active", "a=b"),
        ("4", "active", "a!~b"),
        ("3", "pending", "a=~b"),
        ("1", "active", "a!=b"),
    ]


def test_a_silence_lasts_as_long_as_it_is_asked_to(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = FakeRequest({"silenceID": "s"})
    duration = timedelta(hours=2)
    assert (
        client(monkeypatch, asked).silence(["HostDown", "a!=b"], duration=duration, by="me", comment="why")
        == "s"
    )
    ((method, url, body),) = asked.calls
    assert (method, url) == ("POST", "http://h:9093/api/v2/silences")
    assert body["matchers"] == [matcher("HostDown"), matcher("a!=b")]
    assert (body["createdBy"], body["comment"]) == ("me", "why")
    assert datetime.fromisoformat(body["endsAt"]) - datetime.fromisoformat(body["startsAt"]) == duration


def test_an_alert_that_is_posted_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = FakeRequest()
    client(monkeypatch, asked).post_alert({"alertname": "A"}, {"summary": "x"}, duration=timedelta(minutes=2))
    ((method, url, (alert,)),) = asked.calls
    assert (method, url) == ("POST", "http://h:9093/api/v2/alerts")
    assert (alert["labels"], alert["annotations"]) == ({"alertname": "A"}, {"summary": "x"})
    times = [datetime.fromisoformat(alert[name]) for name in ("startsAt", "endsAt")]
    assert times[1] - times[0] == timedelta(minutes=2)
    assert times[0].tzinfo is not None


def test_the_receivers_of_an_alert_are_those_of_the_one_with_exactly_its_labels(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def alert(silenced: list[str], inhibited: list[str], *receivers: str, **labels: str) -> dict[str, Any]:
        status = {"silencedBy": silenced, "inhibitedBy": inhibited}
        return {"labels": labels, "status": status, "receivers": [{"name": name} for name in receivers]}

    listed = [alert([], [], "slack", a="1", b="2"), alert(["s"], ["f"], "page", "slack", a="1")]
    asked = client(monkeypatch, FakeRequest(listed))
    assert asked.fate_of({"a": "1"}) == (["page", "slack"], ["silenced by s", "inhibited by alert f"])
    assert asked.fate_of({"a": "1", "b": "2"}) == (["slack"], [])
    assert asked.fate_of({"b": "2"}) == ([], [])


def test_the_login_is_used_and_a_refusal_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = client(monkeypatch, FakeRequest(status=400), ("me", "secret"))
    assert refused._session.auth == ("me", "secret")
    with pytest.raises(OpsError, match="refused DELETE silence/7: 400 no such label"):
        refused.expire("7")

    def fails(*_: object, **__: object) -> None:
        raise requests.ConnectionError("http://me:secret@h")

    with pytest.raises(OpsError, match="does not answer: ConnectionError") as error:
        client(monkeypatch, fails).alerts()
    assert "secret" not in json.dumps([error.value.message, error.value.hint])


@pytest.mark.parametrize("labels", [(), ("--label", "drill=false"), ("--label", "drill=")])
def test_an_alert_fired_by_hand_always_has_the_label_drill(
    monkeypatch: pytest.MonkeyPatch, labels: tuple[str, ...]
) -> None:
    """Without the label it would inhibit real alerts, and page people like a real one."""
    posted: list[dict[str, str]] = []
    server = SimpleNamespace(
        url="http://h:9093",
        post_alert=lambda given, *_, **__: posted.append(given),
        fate_of=lambda _: (["pager"], []),
    )
    monkeypatch.setattr(alertmanager, "find", lambda _: server)
    done = CliRunner().invoke(main, ["fire", "RedisDown", *labels])
    assert done.exit_code == 0, done.output
    assert [each["drill"] for each in posted] == ["true"]
