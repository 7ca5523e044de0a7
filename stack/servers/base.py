"""What all embedded servers have in common: a folder, a port, start until ready, stop, and a crash on purpose."""

import os
import signal
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Self

from sidecar import OpsError
from stack import ports
from stack.paths import ROOT
from stack.process import Process
from stack.waiting import wait_for

START_SECONDS = 60.0
START_TRIES = 3


class Server(ABC):
    """One server process.

    Args:
        folder: its state; made when it is not there. What is in it survives a stop and a kill.
        port: the port to use; a free one by default, kept over restarts.
        log: file that gets its output; by default one in its folder.
    """

    name: str
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM

    def __init__(self, folder: Path, *, port: int | None = None, log: Path | None = None) -> None:
        self.folder = folder
        self.log = log or folder / f"{self.name}.log"
        self.port = port or ports.choose()
        self._port_is_ours = port is None
        self._process: Process | None = None
        self._log_start = 0

    @property
    @abstractmethod
    def url(self) -> str:
        """Where clients reach it."""

    @abstractmethod
    def command(self) -> Sequence[str]:
        """Program and arguments."""

    @abstractmethod
    def is_ready(self) -> bool:
        """Whether it answers."""

    def prepare(self) -> None:  # noqa: B027 - most servers need nothing
        """What must be there before each start."""

    def environment(self) -> Mapping[str, str]:
        """The environment of the process."""
        return os.environ

    @property
    def working_folder(self) -> Path:
        """Where the process runs."""
        return ROOT

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.running

    @property
    def pid(self) -> int:
        assert self._process is not None, f"{self.name} was not started"
        return self._process.pid

    def start(self) -> Self:
        """Start and wait until it answers.

        Raises:
            OpsError: it ended or did not answer in time; the message has the end of its log.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        for attempt in range(START_TRIES):
            try:
                self._start_once()
            except OpsError:
                self.stop()
                # Somebody else may have taken the free port between its choice and its use.
                if not self._port_is_ours or attempt == START_TRIES - 1:
                    raise
                self.port = ports.choose()
            else:
                # The choice is made: a restart must come back where the clients look for it.
                self._port_is_ours = False
                return self
        raise AssertionError("unreachable")

    def stop(self) -> None:
        """End it in an orderly way."""
        if self._process is not None:
            self._process.stop(number=self.stop_signal)

    def kill(self) -> None:
        """End it as a crash would."""
        if self._process is not None:
            self._process.kill()

    def has_logged(self, text: str) -> bool:
        """Whether a text stands in the log since the last start."""
        with self.log.open("rb") as log:
            log.seek(self._log_start)
            return text.encode() in log.read()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def _start_once(self) -> None:
        self.prepare()
        self._log_start = self.log.stat().st_size if self.log.exists() else 0
        process = Process(
            self.name, self.command(), log=self.log, env=self.environment(), cwd=self.working_folder
        )
        self._process = process
        wait_for(
            lambda: not process.running or (self.is_ready() and self._is_answered_by(process)),
            timeout=START_SECONDS,
            what=f"{self.name} on port {self.port} answering",
            hint=f"read {self.log}",
        )
        if not process.running:
            raise OpsError(
                f"{self.name} ended at once with exit code {process.exit_code}:\n{process.log_tail()}",
                hint=f"read {self.log}",
            )

    def _is_answered_by(self, process: Process) -> bool:
        """Whether this one answers: somebody else may have been faster on its port."""
        return not self.url or process.listens_on(self.port)
