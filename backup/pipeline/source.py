"""The source of a pipeline's bytes: the output of a child process."""

import fcntl
import os
import select
import subprocess
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Self

from backup.cancellation import never, note_response
from backup.confinement import Confinement, was_refused
from backup.errors import LOCKS, LOCKS_SIGN, DumpError
from backup.pipeline.child import end, lines_of, start

CHUNK = 1 << 20
_STDERR_LINES = 40
_STOP_SECONDS = 3.0
_POLL_SECONDS = 1.0
# Linux: fewer context switches between the dump and this process.
F_SETPIPE_SZ = 1031


class Source(ABC):
    """A stream of unknown length that may end early."""

    @abstractmethod
    def read(self) -> bytes | bytearray:
        """The next bytes; empty at the end of a complete stream.

        Raises:
            DumpError: the source ended early.
        """

    @abstractmethod
    def close(self) -> None:
        """Stop the source, whether it has ended or not."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class ChildSource(Source):
    """The standard output of a program. Its exit status decides whether the output was complete.

    Args:
        command: program and arguments; no secret belongs here.
        env: its whole environment.
        pass_fds: descriptors it inherits.
        hint: what to try if it fails.
        confinement: its limits, if it touches restored content.
        check: called while the program is silent; raises to stop the wait.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        pass_fds: Sequence[int] = (),
        hint: str,
        confinement: Confinement | None = None,
        check: Callable[[], None] = never,
    ) -> None:
        self.name = os.path.basename(command[0])  # noqa: PTH119 - a name, not a path
        self._hint = hint
        self._check = check
        self._errors: deque[str] = deque(maxlen=_STDERR_LINES)
        self._process = start(
            command,
            env=env,
            confinement=confinement,
            pass_fds=tuple(pass_fds),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert self._process.stdout is not None
        self._out = self._process.stdout.fileno()
        with suppress(OSError):
            fcntl.fcntl(self._out, F_SETPIPE_SZ, CHUNK)
        self._listener = threading.Thread(target=self._listen, name=f"{self.name} errors", daemon=True)
        self._listener.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def read(self) -> bytes:
        self._check()
        while not select.select([self._out], [], [], _POLL_SECONDS)[0]:
            self._check()
        note_response()
        data = os.read(self._out, CHUNK)
        if not data:
            self._finish()
        return data

    def close(self) -> None:
        end(self._process, (self._listener,), _STOP_SECONDS)

    def _finish(self) -> None:
        while self._process.poll() is None:
            # The program has closed its output but may never exit.
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_POLL_SECONDS)
            self._check()
        status = self._process.returncode
        self._listener.join(_STOP_SECONDS)
        if status != 0:
            ending = f"was killed by signal {-status}" if status < 0 else f"exited with status {status}"
            messages = " | ".join(self._errors) or "it printed no message"
            was_killed = status < 0 or was_refused(status, self._errors)
            hint = LOCKS if LOCKS_SIGN in messages else self._hint
            raise DumpError(f"{self.name} {ending}: {messages}", hint=hint, killed=was_killed)

    def _listen(self) -> None:
        assert self._process.stderr is not None
        for line in lines_of(self._process.stderr):
            if text := line.strip():
                self._errors.append(text)
