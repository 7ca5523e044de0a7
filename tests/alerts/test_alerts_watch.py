"""The watch over notifications: the dead man's switch gets its pings, and a lost test message is reported."""

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import bcrypt
import pytest
import requests
from click.testing import CliRunner, Result
from prometheus_client.parser import text_string_to_metric_families

from alerts.alertmanager import Alertmanager as Api
from alerts.alertmanager import find
from alerts.cli import main
from alerts.receivers import ReceiverSettings
from alerts.render import configuration, write
from alerts.watch.canary import Canary
from alerts.watch.delivery import FAILED, TRIED, Accepted, Page
from alerts.watch.heartbeat import Heartbeat
from alerts.watch.service import Watch, seconds_until_next
from alerts.watch.settings import WatchSettings
from sidecar import OpsError, UsageError
from stack.servers import Alertmanager
from stack.wait import wait_for


class Double:
    """The outside services: a dead man's switch at /ping, and a chat that shows posted messages at /chat."""

    def __init__(self) -> None:
        self.pings = 0
        self.posted, self.posts = "", 0
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
                double.posts += 1
                double.posted += f"{body}\n" if self.path == "/chat" and double.status == 200 else ""
                self._answer("ok")

            def _answer(self, text: str) -> None:
                body = text.encode()
                self.send_response(double.status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Log nothing."""

        return Handler


@pytest.fixture(scope="module")
def world() -> Iterator[Double]:
    double = Double()
    yield double
    double.stop()


@pytest.fixture
def outside(world: Double) -> Double:
    world.pings, world.posted, world.posts, world.status = 0, "", 0, 200
    return world


@pytest.fixture(scope="module")
def alertmanager(tmp_path_factory: pytest.TempPathFactory, world: Double) -> Iterator[Api]:
    folder = tmp_path_factory.mktemp("alertmanager")
    config = folder / "alertmanager.yml"
    environ = {
        "ALERTMANAGER_WEBHOOK_URL": f"{world.url}/chat",
        "ALERTMANAGER_SLACK_URL": f"{world.url}/slack",
        # Nothing listens on this port.
        "ALERTMANAGER_SMTP_SMARTHOST": "127.0.0.1:1",
        "ALERTMANAGER_EMAIL_TO": "oncall@posthub.test",
        "ALERTMANAGER_EMAIL_FROM": "alerts@posthub.test",
    }
    write(config, configuration(ReceiverSettings.load(environ)))
    with Alertmanager(folder, config=config) as server:
        yield Api(server.url)


def watch(outside: Double, *, clock: Callable[[], float] = time.time, **more: str) -> Watch:
    environ = {
        "ALERTS_WATCH_HOST": "127.0.0.1",
        "ALERTS_WATCH_PORT": "0",
        "ALERTMANAGER_URL": "http://127.0.0.1:1",
        "ALERTMANAGER_HEARTBEAT_URL": f"{outside.url}/ping",
        **more,
    }
    return Watch(WatchSettings.load(environ), ReceiverSettings.load(environ), clock=clock)


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


@pytest.fixture
def web_config(tmp_path: Path) -> Path:
    """Users of the pages, as posthub_init writes them."""
    digest = bcrypt.hashpw(b"open sesame", bcrypt.gensalt(4)).decode()
    (tmp_path / "web.yml").write_text(f"basic_auth_users:\n  alerts: {digest}\n")
    return tmp_path / "web.yml"


def test_only_a_client_with_the_password_satisfies_the_dead_mans_switch(
    outside: Double, web_config: Path
) -> None:
    with watch(outside, ALERTS_WATCH_WEB_CONFIG_FILE_PATH=str(web_config)) as running:
        here = f"http://127.0.0.1:{running.port}"
        for login in (None, ("alerts", "wrong"), ("someone", "open sesame")):
            assert requests.post(f"{here}/watchdog", json=FIRING, auth=login, timeout=30).status_code == 401
            assert requests.post(f"{here}/canary", auth=login, timeout=30).status_code == 401
            assert requests.get(f"{here}/metrics", auth=login, timeout=30).status_code == 401
        assert outside.pings == 0
        known = ("alerts", "open sesame")
        assert requests.post(f"{here}/watchdog", json=FIRING, auth=known, timeout=30).status_code == 200
        assert outside.pings == 1
        # Docker's health check has no password.
        assert requests.get(f"{here}/healthz", timeout=30).ok


def test_the_watch_and_its_client_sign_in(
    outside: Double, web_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "alertmanager.yml"
    write(config, configuration(ReceiverSettings.load({})))
    with Alertmanager(tmp_path / "server", config=config, web_config=web_config) as server:
        with pytest.raises(OpsError, match="401"):
            Api(server.url).alerts()
        monkeypatch.setenv("ALERTS_PASSWORD", "open sesame")
        found = find(server.url)
        assert found.alerts() == []
        with watch(
            outside,
            ALERTS_WATCH_WEB_CONFIG_FILE_PATH=str(web_config),
            ALERTMANAGER_URL=server.url,
            ALERTS_PASSWORD="open sesame",
            ALERTS_CANARY_EVERY="3600",
        ) as running:
            result = CliRunner().invoke(main, ["canary", "--url", f"http://127.0.0.1:{running.port}"])
        assert result.exit_code == 0, result.output


def test_watchdog_feeds_the_dead_mans_switch(outside: Double) -> None:
    with watch(outside) as running:
        assert metrics(running)["alerts_heartbeat_last_success_timestamp_seconds"] == 0
        assert watchdog(running, FIRING) == 200
        assert outside.pings == 1
        assert metrics(running)["alerts_heartbeat_last_success_timestamp_seconds"] > 1e9


def test_a_switch_that_refuses_is_counted_and_reported_to_alertmanager(outside: Double) -> None:
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
def test_what_is_not_a_webhook_is_refused(outside: Double, body: Any) -> None:
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
        canary.check()
        return canary.arrivals["webhook"].at > 0

    wait_for(arrived, timeout=30, what="the test message", hint="look at Alertmanager's log")
    assert canary.arrivals["webhook"].seconds == 3
    assert canary.arrivals["webhook"].missing_since == 0


def accepted(alertmanager: Api, integration: str) -> Canary:
    evidence = {integration: Accepted(integration, alertmanager.metrics)}
    return Canary(alertmanager, evidence, patience=600, clock=lambda: 5.0)


def failures(alertmanager: Api, integration: str) -> float:
    found = re.search(rf'{FAILED}{{integration="{integration}"}} (\d+)', alertmanager.metrics())
    return float(found.group(1)) if found else 0.0


def test_what_cannot_be_read_back_is_taken_from_alertmanagers_counters(
    alertmanager: Api, outside: Double
) -> None:
    canary = accepted(alertmanager, "slack")
    canary.send()

    def arrived() -> bool:
        canary.check()
        return canary.arrivals["slack"].at > 0

    wait_for(arrived, timeout=30, what="the counters", hint="look at Alertmanager's log")
    assert canary.kinds == {"slack": "accepted"}


@pytest.mark.parametrize("integration", ["email", "slack"])
def test_a_refused_or_unanswered_message_is_not_taken_for_arrived(
    alertmanager: Api, outside: Double, integration: str
) -> None:
    """While Alertmanager is still trying, its count of notifications has risen, but not its count of failures."""
    outside.status = 500
    canary, before = accepted(alertmanager, integration), failures(alertmanager, integration)
    canary.send()

    def failed() -> bool:
        canary.check()
        return failures(alertmanager, integration) >= before + 2

    wait_for(failed, timeout=60, what="failures", hint="look at Alertmanager's log")
    canary.check()
    assert canary.arrivals[integration].at == 0


def counters(*calls: tuple[str, int, int]) -> str:
    """Alertmanager's metrics page with receivers: receiver, attempted calls, failed calls."""
    return "".join(
        f'{TRIED}{{integration="webhook",receiver_name="{name}"}} {tried}\n'
        f'{FAILED}{{integration="webhook",receiver_name="{name}"}} {failed}\n'
        for name, tried, failed in calls
    )


@pytest.mark.parametrize(
    ("canary", "heartbeat", "arrived"),
    [((1, 0), (0, 0), True), ((1, 1), (3, 0), False), ((0, 0), (3, 0), False), ((2, 1), (3, 3), True)],
)
def test_calls_of_other_receivers_prove_nothing(
    canary: tuple[int, int], heartbeat: tuple[int, int], arrived: bool
) -> None:
    pages = [counters(("canary", 0, 0), ("heartbeat", 0, 0))]
    evidence = Accepted("webhook", lambda: pages[-1])
    evidence.begin()
    pages.append(counters(("canary", *canary), ("heartbeat", *heartbeat)))
    assert evidence.found("nonce") == arrived


def test_a_webhook_is_not_taken_for_arrived_where_its_receivers_are_not_named(
    alertmanager: Api, outside: Double
) -> None:
    canary = accepted(alertmanager, "webhook")
    canary.send()
    wait_for(lambda: outside.posts >= 2, timeout=30, what="both calls", hint="look at Alertmanager's log")
    canary.check()
    assert canary.arrivals["webhook"].at == 0


def test_a_lost_test_message_shows_since_when(alertmanager: Api, outside: Double) -> None:
    now = [1000.0]
    canary = Canary(alertmanager, {"slack": Page(f"{outside.url}/ping")}, patience=60, clock=lambda: now[0])
    canary.send()
    now[0] = 1030.0
    canary.check()
    assert canary.arrivals["slack"].missing_since == 0
    now[0] = 1061.0
    canary.check()
    assert canary.arrivals["slack"].missing_since == 1000.0
    # The next one is lost as well: it has been missing since the first.
    canary.send()
    now[0] = 1200.0
    canary.check()
    assert canary.arrivals["slack"].missing_since == 1000.0


class Slow:
    """A receiver's destination that shows one message."""

    kind = "read-back"

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.shows = ""

    def begin(self) -> None:
        """Log nothing."""

    def found(self, nonce: str) -> bool:
        self.asked.append(nonce)
        return nonce == self.shows


def test_a_message_that_comes_late_ends_it(alertmanager: Api, outside: Double) -> None:
    now, mailbox = [1000.0], Slow()
    canary = Canary(alertmanager, {"email": mailbox}, patience=60, clock=lambda: now[0])
    canary.send()
    now[0] = 1061.0
    canary.check()
    canary.send()
    assert canary.is_missing
    # The first message of the two.
    mailbox.shows, now[0] = mailbox.asked[0], 1100.0
    canary.check()
    assert (canary.arrivals["email"].missing_since, canary.arrivals["email"].seconds) == (0, 100)
    # An old message does not prove that the next one arrived.
    canary.send()
    canary.check()
    assert canary.arrivals["email"].at == 1100.0
    now[0] = 1200.0
    canary.check()
    assert canary.is_missing


def test_a_receiver_that_cannot_be_asked_is_missing_too(alertmanager: Api) -> None:
    now = [1000.0]
    canary = Canary(alertmanager, {"slack": Page("http://127.0.0.1:1/")}, patience=60, clock=lambda: now[0])
    canary.send()
    now[0] = 1061.0
    canary.check()
    assert canary.arrivals["slack"].missing_since == 1000.0


def test_a_restart_forgets_nothing(outside: Double, tmp_path: Path) -> None:
    now = [1_800_000_000.0]
    environ = {
        "ALERTS_WATCH_STATE": str(tmp_path / "watch.json"),
        "ALERTMANAGER_SLACK_URL": f"{outside.url}/slack",
        "ALERTS_READBACK_SLACK_URL": f"{outside.url}/ping",
    }
    with watch(outside, clock=lambda: now[0], **environ) as running:
        running.canary.arrivals["slack"].missing_since = now[0] - 100
        assert watchdog(running, FIRING) == 200
    now[0] += 5
    with watch(outside, clock=lambda: now[0], **environ) as running:
        shown = metrics(running)
    assert shown["alerts_heartbeat_last_success_timestamp_seconds"] == now[0] - 5
    assert shown["alerts_canary_missing_since_timestamp_secondsslack"] == now[0] - 105


@pytest.mark.parametrize("text", ["", "[]", "{", '{"canary": {}}'])
def test_an_unreadable_state_is_started_again(outside: Double, tmp_path: Path, text: str) -> None:
    (tmp_path / "watch.json").write_text(text)
    with watch(outside, ALERTS_WATCH_STATE=str(tmp_path / "watch.json")) as running:
        assert watchdog(running, FIRING) == 200
    assert json.loads((tmp_path / "watch.json").read_text())["heartbeat"] > 1e9


def test_a_folder_that_cannot_be_written_does_not_stop_the_watch(outside: Double, tmp_path: Path) -> None:
    with watch(outside, ALERTS_WATCH_STATE=str(tmp_path / "no" / "watch.json")) as running:
        assert watchdog(running, FIRING) == 200


def sent_after(running: Watch, moment: float) -> bool:
    return wait_for(
        lambda: running.canary.sent > moment,
        timeout=20,
        what="a test message",
        hint="see alerts/watch/service.py",
    )


def test_the_first_message_does_not_wait_for_the_schedule(alertmanager: Api, outside: Double) -> None:
    with watch(outside, ALERTMANAGER_URL=alertmanager.url) as running:
        sent_after(running, 0)
        assert metrics(running)["alerts_canary_sent_timestamp_seconds"] > 1e9
        assert metrics(running)["alerts_watch_start_timestamp_seconds"] > 1e9
        assert metrics(running)["alerts_heartbeat_configured"] == 1


def test_a_message_that_was_not_taken_is_not_called_sent(outside: Double) -> None:
    canary = Canary(Api("http://127.0.0.1:1"), {}, patience=60, clock=lambda: 5.0)
    with pytest.raises(OpsError, match="does not answer"):
        canary.send()
    assert canary.sent == 0


def test_while_one_is_missing_messages_come_more_often(alertmanager: Api, outside: Double) -> None:
    """Only the clock advances by an hour; the test does not wait."""
    now = [1_800_000_000.0]
    environ = {
        "ALERTMANAGER_URL": alertmanager.url,
        "ALERTS_CANARY_PATIENCE": "0.1",
        "ALERTMANAGER_SLACK_URL": f"{outside.url}/slack",
        "ALERTS_READBACK_SLACK_URL": f"{outside.url}/ping",
    }
    with watch(outside, clock=lambda: now[0], **environ) as running:
        sent_after(running, 0)
        now[0] += 3700
        running._wake.set()
        sent_after(running, 1_800_000_000.0)
        assert running.canary.is_missing


def ask(alertmanager: Api, outside: Double, seconds: int, **receiver: Any) -> Result:
    with watch(outside, ALERTMANAGER_URL=alertmanager.url, **receiver) as running:
        sent_after(running, 0)
        url = f"http://127.0.0.1:{running.port}"
        return CliRunner().invoke(main, ["canary", "--url", url, "--for", f"{seconds}s"])


def test_a_test_message_can_be_asked_for(alertmanager: Api, outside: Double) -> None:
    chat = f"{outside.url}/chat"
    done = ask(alertmanager, outside, 60, ALERTMANAGER_WEBHOOK_URL=chat, ALERTS_READBACK_WEBHOOK_URL=chat)
    assert done.exit_code == 0, done.output
    assert re.fullmatch(r"webhook +arrived after \d+ s \(read-back\)\n", done.output)


def test_a_receiver_where_it_is_not_seen_is_named(alertmanager: Api, outside: Double) -> None:
    done = ask(
        alertmanager,
        outside,
        5,
        ALERTMANAGER_SLACK_URL=f"{outside.url}/slack",
        ALERTS_READBACK_SLACK_URL=f"{outside.url}/ping",
    )
    assert "did not arrive at slack" in str(done.exception)


def test_without_a_watch_there_is_nothing_to_ask() -> None:
    done = CliRunner().invoke(main, ["canary", "--url", "http://127.0.0.1:1"])
    assert "does not answer" in str(done.exception)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_watch_that_lost_a_part_is_not_healthy(outside: Double, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(_: Canary) -> None:
        raise SystemExit

    monkeypatch.setattr(Canary, "check", breaks)
    with watch(outside) as running:
        wait_for(
            lambda: requests.get(f"http://127.0.0.1:{running.port}/healthz", timeout=5).status_code == 503,
            timeout=20,
            what="the end of a thread",
            hint="see Watch.is_healthy",
        )


def test_each_receiver_that_is_on_is_watched_with_the_best_evidence(outside: Double) -> None:
    running = watch(
        outside,
        ALERTMANAGER_WEBHOOK_URL="http://h",
        ALERTS_READBACK_WEBHOOK_URL=f"{outside.url}/chat",
        ALERTMANAGER_TELEGRAM_BOT_TOKEN="1:x",
        ALERTMANAGER_TELEGRAM_CHAT_ID="2",
        ALERTMANAGER_SMTP_SMARTHOST="m:25",
        ALERTS_READBACK_EMAIL_URL="imaps://u:p@m/INBOX",
    )
    assert running.canary.kinds == {"webhook": "read-back", "telegram": "accepted", "email": "read-back"}
    with running:
        assert metrics(running)["alerts_canary_missing_since_timestamp_secondstelegram"] == 0


def test_test_messages_go_out_on_schedule(alertmanager: Api, outside: Double) -> None:
    environ: dict[str, Any] = {
        "ALERTMANAGER_URL": alertmanager.url,
        "ALERTS_CANARY_EVERY": "0.2",
        "ALERTMANAGER_WEBHOOK_URL": f"{outside.url}/chat",
        "ALERTS_READBACK_WEBHOOK_URL": f"{outside.url}/chat",
    }
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
