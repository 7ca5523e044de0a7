"""A proxy cuts the connection once at each statement of a run: a clear error, the exit code, and an attempt in the store."""

import re
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest

from stack.servers import Postgres
from tests.backup.conftest import NewDatabase
from tests.backup.restorekit import Command


class Proxy:
    """Forwards everything until the client's n-th message, and then closes both sides.

    Attributes:
        seen: the forwarded statements, in order.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.cut_at = -1
        self.seen: list[str] = []
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def begin(self, cut_at: int) -> None:
        with self._lock:
            self.cut_at, self.seen = cut_at, []

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
                for one, other, counted in ((client, server, True), (server, client, False)):
                    threading.Thread(target=self._pass, args=(one, other, counted), daemon=True).start()

    def _pass(self, one: socket.socket, other: socket.socket, counted: bool) -> None:
        with suppress(OSError):
            while data := one.recv(1 << 16):
                if counted and self._cuts(data):
                    break
                other.sendall(data)
        for each in (one, other):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _cuts(self, data: bytes) -> bool:
        """Whether to cut at this message, a query or a parsed one."""
        if data[:1] not in b"QP":
            return False
        with self._lock:
            self.seen.append(re.sub(rb"[^ -~]+", b" ", data)[:90].decode())
            return len(self.seen) - 1 == self.cut_at


@pytest.fixture
def proxy(postgres: Postgres) -> Iterator[Proxy]:
    made = Proxy(postgres.port)
    yield made
    made.close()


def test_cut_at_every_statement(
    proxy: Proxy,
    postgres: Postgres,
    new_database: NewDatabase,
    environ: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    name = new_database("CREATE TABLE t (a serial, b text); INSERT INTO t VALUES (1, 'x')", "cut")
    url = postgres.url_for(name).replace(f":{postgres.port}/", f":{proxy.port}/")
    command = Command({**environ, "DATABASE_URL": url}, monkeypatch, capsys)
    command("run")  # queries that are cached per process are sent here
    proxy.begin(-1)
    assert command("run").status == 0
    statements = [each for each in proxy.seen if "pg_backend_pid" not in each or "SELECT" in each]
    # pg_dump's own statements are many and similar, so each of our statements is tried, and some of pg_dump's.
    ours = [number for number, text in enumerate(statements) if not _of_pg_dump(text)]
    theirs = [number for number, text in enumerate(statements) if _of_pg_dump(text)]
    assert len(ours) > 15, statements
    for number in [*ours, *theirs[:: max(1, len(theirs) // 4)]]:
        records = _attempts(tmp_path, name)
        proxy.begin(number)
        done = command("run")
        cut = proxy.seen[number] if number < len(proxy.seen) else "not reached"
        if done.status == 0:
            assert number >= len(proxy.seen) or "UNLOCK" in cut or "pg_stat" in cut or "ROLLBACK" in cut, (
                cut,
                done,
            )
            continue
        assert done.status in (1, 2), (cut, done)
        assert "Error: " in done.err, (cut, done)
        assert "Try: " in done.err, (cut, done)
        assert "Traceback" not in done.err, (cut, done)
        assert "could not import the requested snapshot" not in done.err, (cut, done)
        assert _attempts(tmp_path, name) > records, (
            f"no attempt in the store after a cut at: {cut}\n{done.err}"
        )
    proxy.begin(-1)
    assert command("run").status == 0
    with psycopg.connect(postgres.url) as connection:
        left = connection.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'").fetchone()
    assert left == (0,)


def _of_pg_dump(text: str) -> bool:
    return ("pg_catalog." in text and "pg_backend_pid" not in text) or (
        text.startswith("Q") and "SET " in text and "LOCAL" not in text
    )


def _attempts(folder: Path, database: str) -> int:
    return len(list((folder / "store" / database / "attempts").glob("*.json")))
