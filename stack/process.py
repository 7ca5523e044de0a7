"""Child processes, each with a log file; none outlives the process that started it."""

import atexit
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from sidecar.signals import uninterrupted
from stack import reaper
from stack.paths import ROOT

STOP_SECONDS = 10.0
LOG_TAIL_LINES = 15


class Process:
    """One running child in its own process group.

    Args:
        name: shown in messages.
        command: program and arguments; must not contain secrets.
        log: file that gets its output, appended.
        env: its whole environment.
        cwd: its working folder.
    """

    def __init__(
        self, name: str, command: Sequence[str], *, log: Path, env: Mapping[str, str], cwd: Path = ROOT
    ) -> None:
        self.name = name
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        # A child that the reaper does not know would outlive us.
        with log.open("ab") as output, uninterrupted():
            self._child = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(env),
                cwd=cwd,
                start_new_session=True,
            )
            _REAPER.watch(self.pid)

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def running(self) -> bool:
        return self._child.poll() is None

    @property
    def exit_code(self) -> int | None:
        return self._child.poll()

    def listens_on(self, port: int) -> bool:
        """Whether it, or a process that it started, listens on a TCP port."""
        ports = [_listening(pid) for pid in _members(self.pid)]
        # The backup sidecar hides its memory, and with it its sockets from everyone but root.
        return any(port in each for each in ports if each is not None) or (None in ports and _is_hidden(port))

    def stop(self, *, number: signal.Signals = signal.SIGTERM, timeout: float = STOP_SECONDS) -> None:
        """Ask the process to end, kill it after ``timeout`` seconds, and end its whole group."""
        _stop(self._child, number, timeout)

    def kill(self) -> None:
        """End the whole process group at once, as a crash would."""
        _kill(self._child)

    def log_tail(self, lines: int = LOG_TAIL_LINES) -> str:
        """The last lines of the log, for an error message."""
        text = self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])


@contextmanager
def guarded(
    command: Sequence[str], *, timeout: float = STOP_SECONDS, **options: Any
) -> Iterator[subprocess.Popen[str]]:
    """A child in its own session that outlives neither the block nor this process.

    Args:
        command: program and arguments.
        timeout: seconds that it gets for its clean-up if the block ends first.
        options: of :class:`subprocess.Popen`.
    """
    child = None
    try:
        with uninterrupted():
            child = subprocess.Popen(list(command), text=True, start_new_session=True, **options)
            _REAPER.watch(child.pid)
        yield child
    finally:
        if child is not None:
            _stop(child, signal.SIGTERM, timeout)


def attended(command: Sequence[str], **options: Any) -> int:
    """Run a command on this terminal and return its exit code. Whatever ends this process ends the command too.

    It keeps the keyboard, so it is not in its own session: a Ctrl-C reaches it directly.
    """
    child = None
    try:
        with uninterrupted():
            child = psutil.Popen(list(command), **options)
        return int(child.wait())
    except BaseException as reason:
        if child is not None:
            # It received a Ctrl-C itself; a second one would make it skip its clean-up.
            notified = isinstance(reason, KeyboardInterrupt) and sys.stdin.isatty()
            _interrupt(child, notified=notified)
        raise


def _interrupt(child: psutil.Popen, *, notified: bool) -> None:
    with suppress(psutil.NoSuchProcess):
        family = [child, *child.children(recursive=True)]
        if not notified:
            child.send_signal(signal.SIGINT)
        for process in psutil.wait_procs(family, timeout=STOP_SECONDS)[1]:
            with suppress(psutil.NoSuchProcess):
                process.kill()


def _stop(child: subprocess.Popen[Any], number: signal.Signals, timeout: float) -> None:
    if child.poll() is None:
        child.send_signal(number)
        with suppress(subprocess.TimeoutExpired):
            child.wait(timeout)
    _kill(child)


def _kill(child: subprocess.Popen[Any]) -> None:
    with suppress(ProcessLookupError):  # the group may have ended already
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    _REAPER.forget(child.pid)


def _members(group: int) -> Iterator[int]:
    """The processes of a process group."""
    for pid in psutil.pids():
        with suppress(ProcessLookupError, PermissionError):
            if os.getpgid(pid) == group:
                yield pid


def _listening(pid: int) -> set[int] | None:
    """The TCP ports that a process listens on; None if this user may not see them."""
    try:
        connections = psutil.Process(pid).net_connections("tcp")
    except psutil.NoSuchProcess:
        return set()
    except psutil.AccessDenied:
        return None
    return {connection.laddr.port for connection in connections if connection.status == psutil.CONN_LISTEN}


def _is_hidden(port: int) -> bool:
    """Whether a process whose sockets this user may not see listens on a TCP port."""
    return any(
        connection.status == psutil.CONN_LISTEN
        and getattr(connection.laddr, "port", 0) == port
        and connection.pid is None
        for connection in psutil.net_connections("tcp")
    )


class _Reaper:
    """The pipe to the reaper program, started with the first child."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._program: subprocess.Popen[bytes] | None = None

    def watch(self, group: int) -> None:
        self._send(f"+{group}\n")

    def forget(self, group: int) -> None:
        self._send(f"-{group}\n")

    def close(self) -> None:
        """End all groups that are left. Whatever threads send after that is ignored."""
        with self._lock:
            if self._program is not None and self._program.stdin is not None:
                self._program.stdin.close()
                self._program.wait()

    def _send(self, line: str) -> None:
        with self._lock:
            if self._program is None:
                self._program = self._start()
            assert self._program.stdin is not None
            if not self._program.stdin.closed:
                self._program.stdin.write(line.encode())
                self._program.stdin.flush()

    def _start(self) -> subprocess.Popen[bytes]:
        program = subprocess.Popen(
            [sys.executable, reaper.__file__], stdin=subprocess.PIPE, start_new_session=True
        )
        atexit.register(self.close)
        return program


_REAPER = _Reaper()
