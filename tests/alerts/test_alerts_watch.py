"""The way to people is watched: the dead-man's switch is fed, a lost test message shows."""

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from alerts.alertmanager import Alertmanager as Api
from alerts.receivers import ReceiverSettings
from alerts.render import configuration, write
from alerts.watch.canary import Canary
from alerts.watch.evidence import Accepted, Page
from alerts.watch.heartbeat import Heartbeat
from alerts.watch.service import Watch, seconds_until_next
from alerts.watch.settings import WatchSettings
from sidecar import UsageError
from stack.servers import Alertmanager
from stack.waiting import wait_for


class Double:
    """The world outside: a dead-man's switch at /ping, and a chat that shows what was posted at /chat."""

    def __init__(self) -> None:
        self.pings = 0
        self.posted = ""
        self.status = 200
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _handler(double) -> type[BaseHTTPRequestHandler]:  # noqa: N805 - the handler has its own self
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                double.pings += self.path == "/ping"
                self._answer(double.posted if self.path == "/chat" else "ok")

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                double.posted += f"{body}\n" if double.status == 200 else ""
                self._answer("ok")

            def _answer(self, text: str) -> None:
                body = text.encode()
                self.send_response(double.status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Nothing."""

        return Handler


@pytest.fixture(scope="module")
def world() -> Iterator[Double]:
    double = Double()
    yield double
    double.stop()


@pytest.fixture
def outside(world: Double) -> Double:
    world.pings, world.posted, world.status = 0, "", 200
    return world


@pytest.fixture(scope="module")
def alertmanager(tmp_path_factory: pytest.TempPathFactory, world: Double) -> Iterator[Api]:
    folder = tmp_path_factory.mktemp("alertmanager")
    config = folder / "alertmanager.yml"
    write(config, configuration(ReceiverSettings.load({"ALERTMANAGER_WEBHOOK_URL": f"{world.url}/chat"})))
    with Alertmanager(folder, config=config) as server:
        yield Api(server.url)


def watch(outside: Double, **more: str) -> Watch:
    environ = {
        "ALERTS_WATCH_HOST": "127.0.0.1", "ALERTS_WATCH_PORT": "0", "ALERTMANAGER_URL": "http://127.0.0.1:1",
        "ALERTMANAGER_HEARTBEAT_URL": f"{outside.url}/ping", **more,
    }  # fmt: skip
    return Watch(WatchSettings.load(environ), ReceiverSettings.load(environ))


def metrics(running: Watch) -> dict[str, float]:
    text = requests.get(f"http://127.0.0.1:{running.port}/metrics", timeout=5).text
    return {
        f"{sample.name}{','.join(sample.labels.values())}": sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def watchdog(running: Watch, body: Any) -> int:
    return requests.post(f"http://127.0.0.1:{running.port}/watchdog", json=body, timeout=30).status_code


FIRING = {"alerts": [{"status": "firing", "labels": {"alertname": "Watchdog"}}]}


def test_watchdog_feeds_the_dead_mans_switch(outside: Double) -> None:
    with watch(outside) as running:
        assert metrics(running)["alerts_heartbeat_last_success_timestamp_seconds"] == 0
        assert watchdog(running, FIRING) == 200
        assert outside.pings == 1
        assert metrics(running)["alerts_heartbeat_last_success_timestamp_seconds"] > 1e9


def test_a_switch_that_refuses_is_counted_and_alertmanager_told(outside: Double) -> None:
    outside.status = 500
    with watch(outside) as running:
        assert watchdog(running, FIRING) == 503
        assert metrics(running)["alerts_heartbeat_failures_total"] == 1


@pytest.mark.parametrize(
    "body", [{"alerts": [{"status": "resolved", "labels": {"alertname": "Watchdog"}}]}, {"alerts": []}]
)
def test_a_resolved_watchdog_does_not_feed_it(outside: Double, body: Any) -> None:
    with watch(outside) as running:
        assert watchdog(running, body) == 503
    assert outside.pings == 0


@pytest.mark.parametrize("body", [[], {}, {"alerts": "x"}, "text"])
def test_what_is_no_webhook_is_refused(outside: Double, body: Any) -> None:
    with watch(outside) as running:
        assert watchdog(running, body) == 400
        assert (
            requests.post(f"http://127.0.0.1:{running.port}/watchdog", data=b"", timeout=5).status_code == 400
        )
        assert requests.get(f"http://127.0.0.1:{running.port}/else", timeout=5).status_code == 404
        assert requests.get(f"http://127.0.0.1:{running.port}/healthz", timeout=5).text == "ok\n"


def test_nothing_secret_in_the_log(outside: Double, caplog: pytest.LogCaptureFixture) -> None:
    outside.status = 500
    assert not Heartbeat(f"{outside.url}/ping/secret-path", clock=lambda: 1.0).beat()
    assert "500" in caplog.text
    assert "secret-path" not in caplog.text


def test_a_test_message_is_found_at_the_other_end(alertmanager: Api, outside: Double) -> None:
    """Through a real Alertmanager, to a real webhook, read back from there."""
    now = [1000.0]
    canary = Canary(alertmanager, {"webhook": Page(f"{outside.url}/chat")}, patience=60, clock=lambda: now[0])
    canary.send()
    now[0] += 3

    def arrived() -> bool:
        canary.look()
        return canary.arrivals["webhook"].at > 0

    wait_for(arrived, timeout=30, what="the test message", hint="look at Alertmanager's log")
    assert canary.arrivals["webhook"].seconds == 3
    assert canary.arrivals["webhook"].missing_since == 0


def test_what_cannot_be_read_back_is_taken_from_alertmanagers_counters(
    alertmanager: Api, outside: Double
) -> None:
    canary = Canary(
        alertmanager, {"webhook": Accepted("webhook", alertmanager.metrics)}, patience=60, clock=lambda: 5.0
    )
    canary.send()

    def arrived() -> bool:
        canary.look()
        return canary.arrivals["webhook"].at > 0

    wait_for(arrived, timeout=30, what="the counters", hint="look at Alertmanager's log")
    assert canary.kinds == {"webhook": "accepted"}


def test_a_lost_test_message_shows_since_when(alertmanager: Api, outside: Double) -> None:
    now = [1000.0]
    canary = Canary(alertmanager, {"slack": Page(f"{outside.url}/ping")}, patience=60, clock=lambda: now[0])
    canary.send()
    now[0] = 1030.0
    canary.look()
    assert canary.arrivals["slack"].missing_since == 0
    now[0] = 1061.0
    canary.look()
    assert canary.arrivals["slack"].missing_since == 1000.0
    # The next one is lost as well: it has been missing since the first.
    canary.send()
    now[0] = 1200.0
    canary.look()
    assert canary.arrivals["slack"].missing_since == 1000.0


def test_a_receiver_that_cannot_be_asked_is_missing_too(alertmanager: Api) -> None:
    now = [1000.0]
    canary = Canary(alertmanager, {"slack": Page("http://127.0.0.1:1/")}, patience=60, clock=lambda: now[0])
    canary.send()
    now[0] = 1061.0
    canary.look()
    assert canary.arrivals["slack"].missing_since == 1000.0


def test_each_receiver_that_is_on_is_watched_with_the_best_evidence(outside: Double) -> None:
    running = watch(
        outside, ALERTMANAGER_WEBHOOK_URL="http://h", ALERTS_READBACK_WEBHOOK_URL=f"{outside.url}/chat",
        ALERTMANAGER_TELEGRAM_BOT_TOKEN="1:x", ALERTMANAGER_TELEGRAM_CHAT_ID="2",
        ALERTMANAGER_SMTP_SMARTHOST="m:25", ALERTS_READBACK_EMAIL_URL="imaps://u:p@m/INBOX",
    )  # fmt: skip
    assert running.canary.kinds == {"webhook": "read-back", "telegram": "accepted", "email": "read-back"}
    with running:
        assert metrics(running)["alerts_canary_missing_since_timestamp_secondstelegram"] == 0


def test_test_messages_go_out_on_schedule(alertmanager: Api, outside: Double) -> None:
    environ = {
        "ALERTMANAGER_URL": alertmanager.url, "ALERTS_CANARY_EVERY": "0.2",
        "ALERTMANAGER_WEBHOOK_URL": f"{outside.url}/chat", "ALERTS_READBACK_WEBHOOK_URL": f"{outside.url}/chat",
    }  # fmt: skip
    with watch(outside, **environ) as running:
        wait_for(
            lambda: running.canary.sent > 0,
            timeout=10,
            what="a test message",
            hint="see alerts/watch/service.py",
        )


@pytest.mark.parametrize(
    ("now", "seconds"),
    [("2026-11-23T09:00:00", 1800), ("2026-11-23T09:30:00", 86400), ("2026-11-23T10:30:00", 23 * 3600)],
)
def test_the_daily_message_is_due_at_its_time(now: str, seconds: float) -> None:
    assert (
        seconds_until_next(WatchSettings.load({}), datetime.fromisoformat(now).replace(tzinfo=UTC)) == seconds
    )


def test_a_wrong_time_is_named() -> None:
    with pytest.raises(UsageError, match="ALERTS_CANARY_AT=late"):
        WatchSettings.load({"ALERTS_CANARY_AT": "late"})


def test_the_messages_json_is_what_alertmanager_sends(alertmanager: Api, outside: Double) -> None:
    Canary(alertmanager, {}, patience=1, clock=lambda: 1.0).send()
    wait_for(lambda: outside.posted, timeout=30, what="the webhook", hint="look at Alertmanager's log")
    (alert,) = json.loads(outside.posted.splitlines()[0])["alerts"]
    assert alert["labels"]["alertname"] == "AlertingCanary"
    assert alert["labels"]["nonce"] in alert["annotations"]["summary"]
