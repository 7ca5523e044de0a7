"""Runs a program to its end, while looking whether somebody wants us to stop."""

import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import IO

from backup.cancellation import never

LOOK_SECONDS = 1.0
Consumer = Callable[[str], bool]
"""Told each line on standard error as it comes; whether it need not be kept."""


@dataclass(frozen=True)
class Ended:
    """How a program ended, and what it said on standard error."""

    status: int
    errors: tuple[str, ...]


def run_child(
    command: Sequence[str],
    *,
    env: Mapping[str, str],
    pass_fds: Sequence[int] = (),
    given: bytes | None = None,
    check: Callable[[], None] = never,
    consumed: Consumer | None = None,
) -> Ended:
    """Run a program, its output thrown away; it is ended when ``check`` raises."""
    process = subprocess.Popen(
        list(command),
        stdin=subprocess.PIPE if given is not None else subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=dict(env),
        pass_fds=tuple(pass_fds),
    )
    lines: list[str] = []
    assert process.stderr is not None
    reader = threading.Thread(target=_read, args=(process.stderr, lines, consumed), name="messages")
    writer = threading.Thread(target=_write, args=(process.stdin, given), name="input")
    reader.start()
    writer.start()
    try:
        while process.poll() is None:
            reader.join(LOOK_SECONDS)
            if not reader.is_alive():
                process.wait()
            check()
    except BaseException:
        process.terminate()
        raise
    finally:
        process.wait()
        reader.join()
        writer.join()
        process.stderr.close()
    return Ended(process.returncode, tuple(lines))


def _read(stream: IO[bytes], lines: list[str], consumed: Consumer | None) -> None:
    for raw in stream:
        line = raw.decode(errors="replace").rstrip("\n")
        if consumed is None or not consumed(line):
            lines.append(line)


def _write(stream: IO[bytes] | None, given: bytes | None) -> None:
    if stream is None:
        return
    try:
        stream.write(given or b"")
        stream.close()
    except BrokenPipeError:
        pass  # it ended without reading; its status and messages tell why
