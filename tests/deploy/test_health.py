"""The health checks, as a container runs them."""

import os
import runpy
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from socketserver import BaseRequestHandler, StreamRequestHandler, ThreadingTCPServer
from threading import Event, Thread

import pytest

from stack.paths import ROOT

HEALTH = ROOT / "deploy" / "health"


def _check(name: str, *arguments: str, **environ: str) -> "subprocess.CompletedProcess[str]":
    """From the app's folder, as the image does it."""
    return subprocess.run(
        [sys.executable, str(HEALTH / name), *arguments],
        cwd=ROOT / "app",
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT / "app"), **environ},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def test_beats_check_says_that_the_database_does_not_answer(tmp_path: Path) -> None:
    url = tmp_path / "database_url"
    url.write_text("postgresql://posthub:hunter2@127.0.0.1:9/posthub\n")
    done = _check("beat.py", DATABASE_URL_FILE=str(url))
    assert done.returncode == 1
    assert done.stderr == "database: OperationalError\n"


def test_beats_check_costs_less_than_beat() -> None:
    """It shares beat's memory limit: if it imported the app, two slow checks would get beat killed."""
    program = f"import runpy, sys; runpy.run_path({str(HEALTH / 'beat.py')!r}); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not {"celery", "django", "config"} & set(done.stdout.split())


@pytest.fixture
def silent_server() -> Iterator[int]:
    """A server that sends one character of a status line now and then until the end of the test."""
    over = Event()

    class Silent(BaseRequestHandler):
        def handle(self) -> None:
            with suppress(OSError):
                while not over.wait(0.2):
                    self.request.sendall(b"x")

    with ThreadingTCPServer(("127.0.0.1", 0), Silent) as server:
        server.daemon_threads = True
        Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        over.set()
        server.shutdown()


def test_a_check_has_a_time_limit(silent_server: int) -> None:
    """Otherwise Docker would start the next check next to it, until the checks use up the container's memory."""
    done = _check("answers.py", f"http://127.0.0.1:{silent_server}/")
    assert done.returncode != 0


@pytest.mark.parametrize(
    ("status", "code"),
    [
        ("HTTP/1.1 200 OK", 0),
        ("HTTP/1.0 204", 0),
        ("HTTP/1.1 302 Found", 0),
        ("HTTP/1.1 404 Not Found", 1),
        ("HTTP/1.1 503 Service Unavailable", 1),
        ("SSH-2.0-OpenSSH 200 OK", 1),
        ("", 1),
    ],
)
def test_only_an_answer_with_success_is_healthy(status: str, code: int) -> None:
    asked = []

    class Answering(StreamRequestHandler):
        def handle(self) -> None:
            asked.append(self.rfile.readline().decode().split()[1])
            self.wfile.write(f"{status}\r\n\r\n".encode() if status else b"")

    with ThreadingTCPServer(("127.0.0.1", 0), Answering) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        done = _check("answers.py", f"http://127.0.0.1:{server.server_address[1]}/flower/healthcheck")
        server.shutdown()
    assert asked == ["/flower/healthcheck"]
    assert done.returncode == code
    assert done.stderr.strip() == ("" if code == 0 else status or "no answer")


def test_a_program_that_is_still_starting_is_awaited(monkeypatch: pytest.MonkeyPatch) -> None:
    """Docker's next check is several seconds later, and production's start would take as much longer."""
    attempts: list[tuple[str, int]] = []

    def connect(address: tuple[str, int], timeout: float) -> None:
        attempts.append(address)
        raise ConnectionRefusedError if len(attempts) < 3 else TimeoutError

    monkeypatch.setattr(socket, "create_connection", connect)
    with pytest.raises(TimeoutError):
        runpy.run_path(str(HEALTH / "answers.py"))["_connect"]("127.0.0.1", 80)
    assert attempts == [("127.0.0.1", 80)] * 3


def test_a_check_of_a_page_loads_no_http_client() -> None:
    """Many containers run it every few seconds."""
    program = f"import runpy, sys; runpy.run_path({str(HEALTH / 'answers.py')!r}); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-IS", "-c", program], capture_output=True, text=True, check=True)
    assert not {"http.client", "urllib.request", "ssl", "email"} & set(done.stdout.split())
