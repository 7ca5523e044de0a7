"""Runs a program to its end, and checks for a stop request while it runs."""

import os
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from backup.cancellation import never
from backup.confinement import Confinement, was_refused
from backup.errors import OURS, VerificationError
from sidecar.rootless import rootless
from sidecar.signals import uninterrupted

POLL_SECONDS = 0.5
# A restored database can make programs print endless messages.
MAX_LINES = 2000
MAX_LINE = 8192
# Time for a terminated program to clean up before it is killed: pg_restore asks its server to cancel, which may be silent.
STOP_SECONDS = 3.0
Consumer = Callable[[str], bool]
"""Called with each line of standard error; returns whether to discard it."""


@dataclass(frozen=True)
class Ended:
    """The exit status of a program, and its standard error, shortened to its beginning and end if it is very long."""

    status: int
    errors: tuple[str, ...]


class Lines:
    """Lines of a program that may print endlessly: the first and the last ones, each up to a length."""

    def __init__(self) -> None:
        self._first: list[str] = []
        self._last: deque[str] = deque(maxlen=MAX_LINES)
        self._left_out = 0

    def append(self, line: str) -> None:
        if len(self._first) < MAX_LINES:
            self._first.append(line)
            return
        self._left_out += len(self._last) == MAX_LINES
        self._last.append(line)

    def all(self) -> tuple[str, ...]:
        """The lines that were kept, in their order."""
        gap = [f"({self._left_out} lines are left out)"] if self._left_out else []
        return (*self._first, *gap, *self._last)


def lines_of(stream: IO[bytes]) -> Iterator[str]:
    """The lines of a stream, without line ends; long lines are cut."""
    whole = True
    while raw := stream.readline(MAX_LINE):
        if whole:
            yield raw.decode(errors="replace").rstrip("\n")
        whole = raw.endswith(b"\n")


def start(
    command: Sequence[str],
    *,
    env: Mapping[str, str],
    confinement: Confinement | None = None,
    as_root: bool = True,
    **options: Any,
) -> "subprocess.Popen[bytes]":
    """Start a program. Call it within ``uninterrupted()``, so that no signal arrives before the caller has the process.

    Args:
        confinement: the limits of a program that touches restored content.
        as_root: False for programs that refuse to run as root.
        options: of :class:`subprocess.Popen`.
    """
    words, environment = list(command), dict(env)
    if confinement is not None:
        words = confinement.command(words, environment)
        environment["TMPDIR"] = str(confinement.folder)
    return subprocess.Popen(words if as_root else rootless(words), env=environment, **options)


def run_child(
    command: Sequence[str],
    *,
    env: Mapping[str, str],
    pass_fds: Sequence[int] = (),
    confinement: Confinement | None = None,
    as_root: bool = True,
    output: bool = False,
    group: bool = False,
    check: Callable[[], None] = never,
    consumed: Consumer | None = None,
) -> Ended:
    """Run a program. It is terminated if ``check`` raises.

    Args:
        output: collect its standard output like its standard error; otherwise it is discarded.
        group: if it must be stopped, stop all programs that it has started and that have not left its process group.
        confinement, as_root: see :func:`start`.

    Raises:
        VerificationError: the kernel refused to confine it.
    """
    lines = Lines()
    process = None
    threads: list[threading.Thread] = []
    try:
        with uninterrupted():
            process = start(
                command,
                env=env,
                confinement=confinement,
                as_root=as_root,
                pass_fds=tuple(pass_fds),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if output else subprocess.DEVNULL,
                stderr=subprocess.STDOUT if output else subprocess.PIPE,
                start_new_session=group,
            )
        stream = process.stdout if output else process.stderr
        reader = threading.Thread(target=_read, args=(stream, lines, consumed), name="messages", daemon=True)
        threads.append(reader)
        reader.start()
        while process.poll() is None:
            reader.join(POLL_SECONDS)
            if not reader.is_alive():
                # A program may close its messages long before it ends.
                with suppress(subprocess.TimeoutExpired):
                    process.wait(POLL_SECONDS)
            check()
    finally:
        if process is not None:
            if group and process.poll() is None:
                _end_group(process)
            end(process, threads)
    ended = Ended(process.returncode, lines.all())
    if confinement is not None and was_refused(ended.status, ended.errors):
        raise VerificationError(f"{command[0]} was not run: {ended.errors[0]}", hint=OURS)
    return ended


def end(
    process: "subprocess.Popen[bytes]",
    threads: Sequence[threading.Thread] = (),
    seconds: float = STOP_SECONDS,
) -> None:
    """Terminate a program: send SIGTERM, wait, then kill it.

    Args:
        threads: the threads that read from it. If a child of the program keeps a pipe open, they are not waited for.
    """
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            _kill(process)
    process.wait()
    for thread in threads:
        if thread.ident is not None:
            thread.join(seconds)
    if not any(thread.is_alive() for thread in threads):
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


def _end_group(process: "subprocess.Popen[bytes]") -> None:
    """Terminate a program that leads a process group, and all others in it; after some seconds, kill them."""
    os.killpg(process.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(STOP_SECONDS)
    with suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)


def _kill(process: "subprocess.Popen[bytes]") -> None:
    """Kill a program and those that it has started: pg_restore's workers would continue without it."""
    started: list[int] = []
    with suppress(OSError):
        started = [
            int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        ]
    process.kill()
    for pid in started:
        with suppress(OSError):
            os.kill(pid, signal.SIGKILL)


def _read(stream: IO[bytes], lines: Lines, consumed: Consumer | None) -> None:
    for line in lines_of(stream):
        if consumed is None or not consumed(line):
            lines.append(line)
