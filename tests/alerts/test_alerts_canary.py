"""When test messages are sent, what counts as their arrival, and what the watch reports, without any server."""

import json
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self, cast

import pytest
from prometheus_client.parser import text_string_to_metric_families

from alerts.alertmanager import Alertmanager
from alerts.receivers import ReceiverSettings
from alerts.watch.canary import Arrival, Canary
from alerts.watch.client import TestMessage
from alerts.watch.delivery import FAILED, TRIED, Accepted, Mailbox, Page
from alerts.watch.service import AGAIN_SECONDS, RETRY_SECONDS, Watch, evidence
from alerts.watch.settings import WatchSettings
from sidecar import OpsError

NOW = 1_800_000_000.0


class Posted:
    """An Alertmanager that accepts everything."""

    def __init__(self) -> None:
        self.alerts: list[Mapping[str, str]] = []
        self.duration = timedelta()

    def post_alert(self, labels: Mapping[str, str], _: Mapping[str, str], *, duration: timedelta) -> None:
        self.alerts.append(labels)
        self.duration = duration


class Mute:
    """A receiver where nothing is found unless it is named."""

    kind = "read-back"

    def __init__(self) -> None:
        self.begun = 0
        self.shows = False

    def begin(self) -> None:
        self.begun += 1

    def found(self, _: str) -> bool:
        return self.shows


def canary(
    now: list[float], patience: float = 60, known: Mapping[str, Any] | None = None, **receivers: Mute
) -> tuple[Canary, Posted]:
    posted = Posted()
    made = Canary(
        cast("Alertmanager", posted), receivers, patience=patience, clock=lambda: now[0], known=known
    )
    return made, posted


def test_a_message_that_the_next_one_overtakes_is_missing_since_it_was_sent() -> None:
    now, slow = [1000.0], Mute()
    made, _ = canary(now, patience=600, slack=slow)
    made.send()
    now[0] = 1100.0
    assert not made.is_missing
    made.send()
    assert made.arrivals["slack"].missing_since == 1000
    assert slow.begun == 2


def test_the_first_of_several_messages_that_are_missing_counts() -> None:
    now = [1000.0]
    made, _ = canary(now, patience=600, slack=Mute())
    for now[0] in (1000.0, 1100.0, 1200.0):
        made.send()
    assert made.arrivals["slack"].missing_since == 1000


class Shows(Mute):
    """A slow receiver that shows some of the messages."""

    def __init__(self) -> None:
        super().__init__()
        self.nonces: set[str] = set()

    def found(self, nonce: str) -> bool:
        return nonce in self.nonces


@pytest.mark.parametrize(
    ("shown", "seconds"), [((0,), None), ((1,), 400), ((1, 3), 200), ((4, 2, 3), 100), ((), None)]
)
def test_of_the_last_four_messages_the_newest_that_arrived_counts(
    shown: tuple[int, ...], seconds: float | None
) -> None:
    now, slow = [1000.0], Shows()
    made, posted = canary(now, patience=60, slack=slow)
    for number in range(5):
        now[0] = 1000.0 + 100 * number
        made.send()
    now[0] = 1500.0
    slow.nonces = {posted.alerts[number]["nonce"] for number in shown}
    made.check()
    arrival = made.arrivals["slack"]
    assert arrival == (Arrival(1500.0, seconds, 0.0) if seconds else Arrival(0.0, 0.0, 1000.0))


def test_one_receiver_that_misses_a_message_is_enough() -> None:
    now = [1000.0]
    made, _ = canary(now, slack=Mute(), email=Mute())
    made._evidence["email"].shows = True  # type: ignore[attr-defined]
    made.send()
    made.check()
    now[0] = 1061.0
    made.check()
    assert made.is_missing
    assert [made.arrivals[name].missing_since for name in ("slack", "email")] == [1000, 0]


def test_a_message_is_fresh_until_it_has_arrived_or_is_late() -> None:
    now, slack = [1000.0], Mute()
    made, _ = canary(now, slack=slack)
    seen = [made.is_fresh]
    made.send()
    for at in (1060.0, 1061.0):
        now[0] = at
        seen.append(made.is_fresh)
    now[0], slack.shows = 1030.0, True
    made.check()
    assert [*seen, made.is_fresh] == [False, True, False, False]


def test_a_test_message_wakes_nobody() -> None:
    made, posted = canary([NOW], slack=Mute())
    made.send()
    (labels,) = posted.alerts
    assert (labels["alertname"], labels["severity"]) == ("AlertingCanary", "info")
    assert posted.duration <= timedelta(minutes=5), "it stays on the page of alerts"


@pytest.mark.parametrize(("awaited", "sent"), [([], 5.0), (["slack"], 0.0)])
def test_a_message_that_was_in_transit_at_a_restart_is_sent_again(awaited: list[str], sent: float) -> None:
    known = {"sent": 5.0, "awaited": awaited, "arrivals": {"slack": {"at": 3.0, "seconds": 2.0}}}
    made, _ = canary([NOW], known=known, slack=Mute())
    assert made.sent == sent
    assert made.arrivals["slack"] == Arrival(3.0, 2.0, 0.0)


Start = Callable[..., Watch]


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[Start]:
    """A watch that is not started; nothing listens where it sends."""
    made: list[Watch] = []

    def start(state: Mapping[str, Any] | None = None, **more: str) -> Watch:
        file = tmp_path / "watch.json"
        if state is not None:
            file.write_text(json.dumps(state))
        environ = {
            "ALERTS_WATCH_HOST": "127.0.0.1",
            "ALERTS_WATCH_PORT": "0",
            "ALERTS_WATCH_STATE": str(file),
            "ALERTMANAGER_URL": "http://127.0.0.1:1",
            "ALERTMANAGER_HEARTBEAT_URL": "http://127.0.0.1:1/ping",
            "ALERTMANAGER_SLACK_URL": "http://127.0.0.1:1/slack",
            **more,
        }
        made.append(Watch(WatchSettings.load(environ), ReceiverSettings.load(environ), clock=lambda: NOW))
        return made[-1]

    yield start
    for one in made:
        one._server.stop()


DAY = 86_400.0


@pytest.mark.parametrize(("ago", "at_once"), [(DAY - 1, False), (DAY, True), (NOW, True)])
def test_a_restart_sends_a_message_only_if_the_last_one_is_old(
    watch: Start, ago: float, at_once: bool
) -> None:
    started = watch({"canary": {"sent": NOW - ago, "awaited": [], "arrivals": {}}})
    assert (started._next() <= NOW) == at_once
    assert started._next() <= NOW + DAY


def test_a_message_that_alertmanager_refused_is_tried_again_soon(watch: Start) -> None:
    started = watch()
    started._send()
    assert started.canary.sent == 0
    assert started._next() == NOW + RETRY_SECONDS


def test_messages_come_more_often_only_while_one_is_missing(watch: Start) -> None:
    started = watch({"canary": {"sent": NOW, "awaited": [], "arrivals": {}}})
    due = started._next()
    assert due > NOW + AGAIN_SECONDS
    started.canary.arrivals["slack"].missing_since = NOW - 100
    assert started._next() == NOW + AGAIN_SECONDS


def test_a_ping_is_remembered_at_once(watch: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = watch()
    monkeypatch.setattr("alerts.watch.heartbeat.deadman.call", lambda _: True)
    assert started.received(b'{"alerts": [{"status": "firing", "labels": {"alertname": "Watchdog"}}]}')
    assert json.loads((tmp_path / "watch.json").read_text())["heartbeat"] == NOW


@pytest.mark.parametrize(
    ("status", "name"), [("resolved", "Watchdog"), ("firing", "Other"), ("resolved", "Other")]
)
def test_only_a_watchdog_that_fires_is_a_ping(
    watch: Start, monkeypatch: pytest.MonkeyPatch, status: str, name: str
) -> None:
    started = watch()
    monkeypatch.setattr("alerts.watch.heartbeat.deadman.call", lambda _: pytest.fail("it was passed on"))
    body = {"alerts": [{"status": status, "labels": {"alertname": name}}]}
    assert not started.received(json.dumps(body).encode())


@pytest.mark.parametrize(("server", "follower"), [(True, True), (True, False), (False, True)])
def test_a_watch_without_one_of_its_threads_is_not_healthy(
    watch: Start, monkeypatch: pytest.MonkeyPatch, server: bool, follower: bool
) -> None:
    started = watch()
    monkeypatch.setattr(type(started._server), "running", server, raising=False)
    monkeypatch.setattr(started._follower, "is_alive", lambda: follower)
    assert started.is_healthy() == (server and follower)


def test_a_requested_message_does_not_wait_for_the_next_check(watch: Start) -> None:
    started = watch({"canary": {"sent": NOW, "awaited": [], "arrivals": {}}})
    started.ask()
    assert started._next() <= NOW
    assert started._wake.is_set()


def test_a_mailbox_is_read_over_tls_unless_its_port_is_named() -> None:
    box = Mailbox("imaps://me%40example.com:pass%2Fword@mail.example.com")
    assert (box._host, box._port, box._folder) == ("mail.example.com", 993, "INBOX")
    assert (box._user, box._password) == ("me@example.com", "pass/word")
    assert Mailbox("imaps://me:x@h:1993/alerts/")._port == 1993


def test_what_the_watch_knows_of_each_receiver_is_exposed(watch: Start) -> None:
    started = watch(ALERTMANAGER_WEBHOOK_URL="http://127.0.0.1:1/hook")
    started.canary.arrivals = {"slack": Arrival(7.0, 3.0, 0.0), "webhook": Arrival(5.0, 2.0, 4.0)}
    started.heartbeat.failures = 9
    found = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(started.metrics().decode())
        for sample in family.samples
    }
    assert found[("alerts_canary_arrived_timestamp_seconds", "accepted", "slack")] == 7
    assert found[("alerts_canary_delivery_seconds", "webhook")] == 2
    assert found[("alerts_canary_missing_since_timestamp_seconds", "webhook")] == 4
    assert found[("alerts_canary_missing_since_timestamp_seconds", "slack")] == 0
    assert found[("alerts_heartbeat_failures_total",)] == 9


PAGES = ("SLACK", "PAGERDUTY", "WEBHOOK")


def test_each_page_is_asked_with_its_own_authorization() -> None:
    environ = {
        "ALERTMANAGER_SLACK_URL": "http://h/1",
        "ALERTMANAGER_PAGERDUTY_ROUTING_KEY": "k",
        "ALERTMANAGER_WEBHOOK_URL": "http://h/2",
        **{f"ALERTS_READBACK_{name}_URL": f"http://h/{name}" for name in PAGES},
        **{f"ALERTS_READBACK_{name}_AUTHORIZATION": f"Bearer {name}" for name in PAGES},
    }
    alertmanager: Any = SimpleNamespace(metrics=str)
    found = evidence(WatchSettings.load(environ), ReceiverSettings.load(environ), alertmanager)
    pages = {name.upper(): cast("Page", page) for name, page in found.items()}
    assert {name: (page._url, page._headers) for name, page in pages.items()} == {
        name: (f"http://h/{name}", {"Authorization": f"Bearer {name}"}) for name in PAGES
    }


class Session:
    """A session whose one answer is an error page that repeats what it was asked for."""

    def __init__(self, ok: bool) -> None:
        self.ok, self.headers = ok, [dict[str, str]()]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def get(self, _: str, *, headers: dict[str, str], timeout: float) -> Any:
        assert timeout <= 30
        self.headers.append(headers)
        return SimpleNamespace(text="no message cafe", raise_for_status=self._raise)

    def _raise(self) -> None:
        if not self.ok:
            raise OpsError("403", hint="")


def test_a_page_that_refuses_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    refusing, open_ = Session(False), Session(True)
    monkeypatch.setattr("alerts.watch.delivery.http.outside_session", lambda: refusing)
    with pytest.raises(OpsError):
        Page("http://h", "Bearer x").found("cafe")
    monkeypatch.setattr("alerts.watch.delivery.http.outside_session", lambda: open_)
    assert Page("http://h", "Bearer x").found("cafe")
    assert refusing.headers[1:] == open_.headers[1:] == [{"Authorization": "Bearer x"}]


def page(tried: int, failed: int) -> str:
    return f'{TRIED}{{integration="slack"}} {tried}\n{FAILED}{{integration="slack"}} {failed}\n'


def test_a_request_that_is_about_to_fail_is_not_an_arrival() -> None:
    """Alertmanager counts the request first and its failure a moment later."""
    answers = iter([page(0, 0), page(1, 0), page(1, 1)])
    counted = Accepted("slack", lambda: next(answers))
    counted.begin()
    assert not counted.found("nonce")


def test_counters_that_could_not_be_read_before_the_message_prove_nothing() -> None:
    answers: Iterator[str | OSError] = iter([page(1, 0), OSError("no answer"), *[page(5, 0)] * 2])

    def read() -> str:
        answer = next(answers)
        if isinstance(answer, OSError):
            raise answer
        return answer

    counted = Accepted("slack", read)
    counted.begin()
    with pytest.raises(OSError, match="no answer"):
        counted.begin()
    assert not counted.found("nonce")


def test_each_receiver_is_reported_once_as_soon_as_it_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    arrivals = {"email": {"seconds": 4}, "slack": {"seconds": 2}, "webhook": {"seconds": 99}}
    states = iter(
        {
            "sent": sent,
            "awaited": awaited,
            "arrivals": arrivals,
            "evidence": dict.fromkeys(arrivals, "accepted"),
        }
        for sent, awaited in [
            (1.0, []),  # before it was asked for, when all earlier messages had arrived
            (1.0, []),
            (2.0, ["email", "slack", "webhook"]),
            (2.0, ["email", "webhook"]),
            (2.0, ["webhook"]),
            (2.0, ["webhook"]),
        ]
    )

    def sleep(_: float) -> None:
        now[0] += 10

    def ask(_: TestMessage, method: str) -> Any:
        return SimpleNamespace(json=lambda: next(states)) if method == "GET" else None

    monkeypatch.setattr(TestMessage, "_ask", ask)
    monkeypatch.setattr("alerts.watch.client.time", SimpleNamespace(monotonic=lambda: now[0], sleep=sleep))
    reported = [(seen.receiver, seen.seconds, now[0]) for seen in TestMessage("http://h").follow(patience=35)]
    assert reported == [("slack", 2, 120), ("email", 4, 130), ("webhook", None, 140)]
