"""The messages as a phone gets them: a real Alertmanager sends them to doubles of Slack, Telegram, PagerDuty and SMTP."""

import json
import socketserver
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from email import message_from_string
from email.header import decode_header, make_header
from email.message import Message
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeVar

import pytest

from alerts.alertmanager import Alertmanager as Api
from alerts.example import annotations_of, labels_of
from alerts.receivers import ReceiverSettings
from alerts.render import configuration, write
from alerts.rules import alert
from stack.servers import Alertmanager
from stack.timefactor import compress
from stack.wait import wait_for

Found = TypeVar("Found")
# Telegram refuses longer texts; Alertmanager would truncate them inside a tag.
LONGEST_TELEGRAM = 4096
TELEGRAM_ANSWER = b'{"ok": true, "result": {"message_id": 1, "date": 1, "chat": {"id": 1}}}'


@dataclass
class Outside:
    """What arrived, by channel."""

    slack: list[Any] = field(default_factory=list)
    telegram: list[Any] = field(default_factory=list)
    pagerduty: list[Any] = field(default_factory=list)
    mail: list[str] = field(default_factory=list)

    def post(self, path: str, body: Any) -> None:
        channel = path.strip("/").split("/")[0]
        getattr(self, "telegram" if channel.startswith("bot") else channel).append(body)


def http_double(outside: Outside) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            outside.post(self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(202 if "pagerduty" in self.path else 200)
            # Each fault in its own format, which newer Alertmanagers parse.
            answer = b"ok" if "slack" in self.path else TELEGRAM_ANSWER
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    return ThreadingHTTPServer(("127.0.0.1", 0), Handler)


def mail_double(outside: Outside) -> socketserver.ThreadingTCPServer:
    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(b"220 here\r\n")
            for line in self.rfile:
                command = line.strip().upper()
                if command == b"DATA":
                    self.wfile.write(b"354 go on\r\n")
                    self._receive()
                self.wfile.write(b"221 bye\r\n" if command == b"QUIT" else b"250 fine\r\n")
                if command == b"QUIT":
                    return

        def _receive(self) -> None:
            lines: list[bytes] = []
            for line in self.rfile:  # ends without the last line if the client went away
                if line == b".\r\n":
                    outside.mail.append(b"".join(lines).decode())
                    return
                lines.append(line)

    return socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)


@pytest.fixture(scope="module")
def outside() -> Outside:
    return Outside()


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory, outside: Outside) -> Iterator[Api]:
    http, mail = http_double(outside), mail_double(outside)
    for server in (http, mail):
        threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{http.server_address[1]}"
    environ = {
        "ALERTMANAGER_QUIET_HOURS": "off",
        "ALERTMANAGER_SLACK_URL": f"{url}/slack",
        "ALERTMANAGER_PAGERDUTY_ROUTING_KEY": "key",
        "ALERTMANAGER_TELEGRAM_BOT_TOKEN": "1:token",
        "ALERTMANAGER_TELEGRAM_CHAT_ID": "-100",
        "ALERTMANAGER_SMTP_SMARTHOST": f"127.0.0.1:{mail.server_address[1]}",
        "ALERTMANAGER_SMTP_REQUIRE_TLS": "no",
        "ALERTMANAGER_EMAIL_TO": "oncall@posthub.test",
        "ALERTMANAGER_EMAIL_FROM": "alerts@posthub.test",
    }
    document = compress(configuration(ReceiverSettings.load(environ)), 30)
    document["global"] |= {"telegram_api_url": url, "pagerduty_url": f"{url}/pagerduty"}
    folder = tmp_path_factory.mktemp("alertmanager")
    write(folder / "alertmanager.yml", document)
    with Alertmanager(folder, config=folder / "alertmanager.yml") as running:
        yield Api(running.url)
    for server in (http, mail):
        server.shutdown()
        server.server_close()


def fire(api: Api, alertname: str, environment: str, number: int, *, ends: bool = False, **more: str) -> None:
    """One alert of a group, or its end; each group has its own environment."""
    mine = {
        "environment": environment,
        "hostname": f"worker-{number}",
        "instance": f"host-{number:02}",
        **more,
    }
    labels = labels_of(alert(alertname), mine)
    api.post_alert(labels, annotations_of(alert(alertname), labels), duration=timedelta(0 if ends else 1))


def slack(outside: Outside, environment: str) -> list[tuple[str, str]]:
    """Title and text of the messages of a group."""
    found = [message["attachments"][0] for message in outside.slack]
    return [(one["title"], one["text"]) for one in found if f"[{environment}]" in one["title"]]


def telegram(outside: Outside, environment: str) -> list[str]:
    return [one["text"] for one in outside.telegram if f"[{environment}]" in one["text"]]


def mails(outside: Outside) -> list[tuple[str, Message]]:
    """Subject and message of each."""
    found = [message_from_string(text) for text in outside.mail]
    return [(str(make_header(decode_header(one["Subject"]))), one) for one in found]


def first(what: str, ask: Callable[[], list[Found]]) -> Found:
    return wait_for(ask, timeout=150, what=what, hint="look at Alertmanager's log")[0]


class Tags(HTMLParser):
    """Fails for a tag that is not closed, or closed and not open."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []
        assert not self.rawdata, "ends inside a tag"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)
        self.links += [value or "" for name, value in attrs if name == "href"]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_a_label_mentions_no_one_in_slack_and_makes_no_link(api: Api, outside: Outside) -> None:
    """Slack interprets <!channel> and <url|text> in a message, and others choose the names of tasks and hosts."""
    fire(api, "CeleryWorkerDown", "mention", 1, hostname="<!channel> <https://bad.example|Dashboard> & co")
    title, text = first("Slack's", lambda: slack(outside, "mention"))
    assert "<" not in title, title
    ours = [line for line in text.splitlines() if "|What to do>" in line]
    rest = "\n".join(line for line in text.splitlines() if line not in ours)
    assert "<" not in rest, rest
    assert "&lt;!channel&gt;" in rest, rest


def test_every_channel_says_what_where_since_when_how_much_and_what_to_do(api: Api, outside: Outside) -> None:
    fire(api, "RedisMemoryCritical", "one", 1)
    title = "🔥 CRITICAL RedisMemoryCritical: Redis uses 42 of its memory limit [one]"
    shown, text = first("Slack's", lambda: slack(outside, "one"))
    assert shown == title
    chat = first("Telegram's", lambda: telegram(outside, "one"))
    assert chat.startswith(f"<b>{title}</b>\n")
    assert any(link.endswith("/RedisMemoryCritical.md") for link in Tags(chat).links)
    event = first("PagerDuty's", lambda: [e for e in outside.pagerduty if "[one]" in e["payload"]["summary"]])
    assert event["payload"]["summary"] == title
    assert event["payload"]["severity"] == "critical"
    subject, mail = first("the mail", lambda: [one for one in mails(outside) if "[one]" in one[0]])
    assert subject == title
    plain = mail.get_payload()[0].get_payload(decode=True).decode()  # type: ignore[index,union-attr]
    page = mail.get_payload()[1].get_payload(decode=True).decode()  # type: ignore[index,union-attr]
    assert "</body></html>" in page
    for message in (text, chat, event["payload"]["custom_details"]["what"], plain, page):
        assert "Redis uses 42 of its memory limit" in message
        assert "instance=host-01" in message
        assert "since " in message
        assert "/RedisMemoryCritical.md" in message
        assert "/d/posthub-redis?" in message


@pytest.mark.parametrize("name", ["ContainerGone", "CeleryWorkerDown", "HostDiskAlmostFull"])
def test_a_large_group_is_whole_for_telegram_and_says_how_many(api: Api, outside: Outside, name: str) -> None:
    long = "/very-long-name" * 30
    for number in range(30):
        fire(api, name, f"many-{name}", number, name=long, mountpoint=long, device=long)
    group = f"many-{name}"
    # The first message may have been sent before all alerts had arrived.
    chat = first(
        "30 at Telegram", lambda: [t for t in telegram(outside, group) if "×30" in t.splitlines()[0]]
    )
    assert len(chat) < LONGEST_TELEGRAM
    assert "and more: 30 in all" in chat
    Tags(chat)
    _, text = first("30 at Slack", lambda: [m for m in slack(outside, group) if "×30" in m[0]])
    assert "and more: 30 in all" in text
    assert text.count("|What to do>") == 6


def test_a_half_resolved_group_names_what_still_fires(api: Api, outside: Outside) -> None:
    for number in (1, 2):
        fire(api, "CeleryWorkerDown", "half", number)
    first("both", lambda: [m for m in slack(outside, "half") if "×2" in m[0]])
    fire(api, "CeleryWorkerDown", "half", 1, ends=True)
    title, text = first("the half", lambda: [m for m in slack(outside, "half") if "✅" in m[1]])
    assert title == "🔥 CRITICAL CeleryWorkerDown: Worker worker-2 is gone [half]"
    assert "*Worker worker-2 is gone*" in text
    assert "*✅ Worker worker-1 is gone*" in text
    chat = first("the half at Telegram", lambda: [t for t in telegram(outside, "half") if "✅" in t])
    assert "✅ Worker worker-1 is gone" in chat
    assert "• Worker worker-2 is gone" in chat
    Tags(chat)
    fire(api, "CeleryWorkerDown", "half", 2, ends=True)
    # One or both: an alert that a flush could not send to every receiver stays in the group.
    first("the end", lambda: [m for m in slack(outside, "half") if m[0].startswith("✅ RESOLVED")])
    Tags(first("its end", lambda: [t for t in telegram(outside, "half") if t.startswith("<b>✅ RESOLVED")]))


def test_a_drill_says_so_first(api: Api, outside: Outside) -> None:
    fire(api, "RedisDown", "drill", 1, drill="true")
    title, _ = first("the drill", lambda: slack(outside, "drill"))
    assert title == "DRILL 🔥 CRITICAL RedisDown: Redis is down [drill]"
