"""Notifications without Prometheus: one for each fault, one when it is over, no repetition."""

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
import requests

from backup.catalogue import layout
from backup.catalogue.document import encode
from backup.catalogue.history import History
from backup.catalogue.notified import Notified
from backup.catalogue.records import Difference
from backup.catalogue.signatures import NO_KEYS, Keyring
from backup.notify import Notifier, inert, sender
from backup.policy.notices import Message, faults, messages
from backup.service.jobs import Jobs
from backup.service.state import new_state
from backup.store import MemoryStore, Store
from tests.backup.conftest import NewDatabase, Wire
from tests.backup.documents import KEYS, NOW, OTHERS, attempt, history, manifest, put, put_attempt, report
from tests.backup.restorekit import Command

RPO = 26 * 3600.0


@pytest.fixture
def hook() -> Iterator[tuple[str, list[dict[str, str]], list[int]]]:
    """A webhook: its address, what it received, and the statuses of its next answers."""
    received: list[dict[str, str]] = []
    statuses: list[int] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status = statuses.pop(0) if statuses else 200
            if status == 200:
                received.append(body)
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield f"json://user:s3cret-word@127.0.0.1:{server.server_port}/hook", received, statuses
    server.shutdown()
    server.server_close()


def history_at(store: Store, hours: float = 0) -> History:
    return history(store, now=NOW + timedelta(hours=hours))


def test_which_faults_there_are() -> None:
    store = MemoryStore()
    assert faults(history_at(store), RPO, NOW) == {}
    put_attempt(store, attempt(NOW, outcome="failure", error="no space", hint="free some"))
    assert faults(history_at(store), RPO, NOW) == {
        "failed": "no space. Try: free some",
        "late": "there is no backup yet",
    }
    made = manifest(NOW)
    put(store, made, proven=False)
    put_attempt(store, attempt(NOW + timedelta(minutes=1)))
    assert faults(history_at(store), RPO, NOW) == {}
    assert faults(history_at(store, 26), RPO, NOW + timedelta(hours=26)) == {}, "as old as it may be"
    late = faults(history_at(store, 26), RPO, NOW + timedelta(hours=26, seconds=1))
    assert [*late] == ["late"]
    assert "is 1 d 6 h old" in faults(history_at(store, 30), RPO, NOW + timedelta(hours=30))["late"]
    assert faults(history_at(store), RPO, NOW, died=True)["failed"].startswith("the run was killed")


def test_a_host_that_cannot_verify_is_not_a_difference() -> None:
    store = MemoryStore()
    made = manifest(NOW)
    put(store, made, proven=False)
    found = report(made, ok=False, unprovable=("an extension is missing here",))
    store.put(layout.report("shop", made.id, found.finished), encode(found))
    assert faults(history_at(store), RPO, NOW) == {}


def test_a_difference_and_an_anomaly_are_named() -> None:
    store = MemoryStore()
    made = manifest(NOW, anomalies=("rows of posts fell to 10",))
    put(store, made, proven=False)
    lost = Difference(kind="rows", object="posts", expected="3", found="2")
    found = report(made, ok=False, differences=(lost,))
    store.put(layout.report("shop", made.id, found.finished), encode(found))
    now = faults(history_at(store), RPO, NOW)
    assert now["differs"] == f"{made.id}: rows posts: expected 3, found 2"
    assert now["unlike"] == f"{made.id}: rows of posts fell to 10"


def test_a_verification_that_failed_without_a_difference_is_named() -> None:
    store = MemoryStore()
    made = manifest(NOW)
    put(store, made, proven=False)
    found = report(made, ok=False)
    store.put(layout.report("shop", made.id, found.finished), encode(found))
    assert faults(history_at(store), RPO, NOW) == {"differs": f"{made.id}: see show"}


def test_the_newest_run_counts_and_a_killed_one_is_named_instead_of_an_earlier_failure() -> None:
    store = MemoryStore()
    put(store, manifest(NOW))
    put_attempt(
        store, attempt(NOW - timedelta(hours=2), outcome="failure", error="no space", hint="free some")
    )
    put_attempt(store, attempt(NOW - timedelta(hours=1), outcome="running", finished=None))
    assert [*faults(history_at(store), RPO, NOW)] == ["failed"]
    assert faults(history_at(store), RPO, NOW, died=True) == {"failed": "the run was killed; see its log"}
    put_attempt(store, attempt(NOW))
    assert faults(history_at(store), RPO, NOW) == {}


def test_one_message_for_each_fault_and_one_when_it_is_over() -> None:
    assert [each.title for each in messages("shop", {}, {"late": "x", "failed": "y"})] == [
        "the backup of shop failed",
        "the backup of shop is late",
    ]
    assert list(messages("shop", {"late": "x"}, {"late": "still"})) == []
    (over,) = messages("shop", {"late": "x"}, {})
    assert (over.title, over.text, over.over) == ("over: the backup of shop is late", "It was: x", True)


def test_a_restart_says_nothing_twice_and_a_failed_message_is_sent_again(wired: Wire) -> None:
    wiring = wired()
    wiring.store.put("shop/x", b"")
    sent: list[Message] = []
    reached = [False]

    def send(message: Message) -> bool:
        if reached[0]:
            sent.append(message)
        return reached[0]

    put_attempt(wiring.store, attempt(NOW, outcome="failure", error="no space", hint="free some"))
    Notifier(wiring, send).send_changes(history(wiring.store))
    assert sent == []
    reached[0] = True
    for _ in range(3):
        Notifier(wiring, send).send_changes(history(wiring.store))
    assert [each.kind for each in sent] == ["failed", "late"]
    put(wiring.store, manifest(wiring.clock()))
    put_attempt(wiring.store, attempt(wiring.clock()))
    for _ in range(2):
        Notifier(wiring, send).send_changes(history(wiring.store, now=wiring.clock()))
    assert [(each.kind, each.over) for each in sent[2:]] == [("failed", True), ("late", True)]


@pytest.mark.parametrize(
    ("database", "keys", "believed"),
    [("shop", KEYS, True), ("shop", OTHERS, False), ("shop", NO_KEYS, False), ("other", KEYS, False)],
)
def test_only_what_we_have_written_about_notifications_is_believed(
    wired: Wire, database: str, keys: Keyring, *, believed: bool
) -> None:
    """Otherwise anyone who can write to the store could silence a fault beforehand."""
    wiring = replace(wired(), keys=KEYS)
    faults_before = {"failed": "x", "late": "y"}
    wiring.store.put(layout.notified("shop"), encode(Notified(database=database, faults=faults_before), keys))
    put_attempt(wiring.store, attempt(NOW, outcome="failure", error="no space", hint="free some"), KEYS)
    sent: list[str] = []

    def send(message: Message) -> bool:
        sent.append(message.kind)
        return True

    Notifier(wiring, send).send_changes(history(wiring.store, KEYS))
    assert sent == ([] if believed else ["failed", "late"])


def test_a_huge_document_about_notifications_is_not_read(
    wired: Wire, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    wiring = wired()
    read: list[str] = []
    monkeypatch.setattr(wiring.store, "get", read.append)
    wiring.store.put(layout.notified("shop"), b" " * (Notified.max_bytes + 1))
    Notifier(wiring, lambda _: True).send_changes(history(wiring.store))
    assert "is not known" in caplog.text
    assert str(Notified.max_bytes + 1) in caplog.text
    assert read == []


def test_an_address_that_does_not_answer_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    send = sender(("json://user:s3cret-word@127.0.0.1:1/hook",))
    caplog.set_level("DEBUG")
    assert not send(Message("failed", "a", "b"))
    assert "apprise" not in {record.name for record in caplog.records}


def test_run_and_the_service_notify_a_webhook(
    hook: tuple[str, list[dict[str, str]], list[int]],
    wired: Wire,
    environ: dict[str, str],
    new_database: NewDatabase,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    url, received, statuses = hook
    command = Command({**environ, "BACKUP_NOTIFY_URLS": url}, monkeypatch, capsys)
    assert command("run").status == 0
    assert received == []
    statuses.append(503)
    done = command("run", BACKUP_ZSTD_LEVEL="1", BACKUP_DUMP_OPTIONS="", BACKUP_POSTGRES_BIN="/nonexistent")
    assert done.status != 0
    assert received == []  # the webhook was down
    assert "s3cret-word" not in done.err
    assert command("run", BACKUP_POSTGRES_BIN="/nonexistent").status != 0
    (message,) = received
    assert message["title"].startswith("the backup of shop_")
    assert message["title"].endswith("failed")
    assert message["type"] == "failure"
    wiring = wired(BACKUP_NOTIFY_URLS=url)
    state = new_state(wiring)
    work = Jobs(state)
    state.refresh()
    work.notify()
    assert len(received) == 1
    work.back_up()
    work.notify()
    assert received[1]["title"].startswith("over: ")
    assert received[1]["type"] == "success"


def test_a_wrong_address_is_refused_at_the_start_and_not_shown(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = Command(environ, monkeypatch, capsys)
    done = command("run", BACKUP_NOTIFY_URLS="json://example.org nonsense://s3cret-word")
    done.fails(2, "address 2 is not one that Apprise knows")
    assert "s3cret-word" not in done.err
    assert command.passed("list") == []


@pytest.mark.parametrize("text", ["<!channel>", "<!here|x>", "<@U12345>", "@everyone", "@all", "<script>"])
def test_a_name_in_the_data_calls_nobody(text: str) -> None:
    sent = inert(f"rows of {text} fell\n")
    assert text not in sent
    assert sent.isprintable() or "\N{WORD JOINER}" in sent
    assert "\n" not in sent
    assert sent.replace("\N{WORD JOINER}", "") == f"rows of {text} fell\\n"


def test_slack_is_sent_no_mention(monkeypatch: pytest.MonkeyPatch) -> None:
    posted: list[str] = []

    def send(_: requests.Session, request: requests.PreparedRequest, **__: object) -> requests.Response:
        posted.append(str(request.body))
        raise requests.ConnectionError

    monkeypatch.setattr(requests.Session, "send", send)
    message = Message("failed", "the backup of shop failed", "rows of <!channel> and <!here> fell")
    assert not sender((f"slack://T1JJ3T3L2/A1BRTD4JD/{'a' * 24}/#general",))(message)
    assert "rows of" in posted[0]
    assert not any(mention in posted[0] for mention in ("<!channel", "<!here"))


def test_every_service_is_sent_names_that_call_nobody(
    hook: tuple[str, list[dict[str, str]], list[int]],
) -> None:
    url, received, _ = hook
    assert sender((url,))(Message("failed", "the backup of @everyone failed", "rows of @all fell"))
    assert "@everyone" not in received[0]["title"]
    assert "@all" not in received[0]["message"]
