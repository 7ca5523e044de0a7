"""The base of all embedded servers: a folder, a port, start until ready, stop, and kill."""

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
from stack.wait import wait_for

# The first start on a new machine also compiles all libraries, while six other programs do the same.
START_SECONDS = 180.0
START_TRIES = 3


class Server(ABC):
    """One server process.

    Args:
        folder: its state; created if missing. Its content survives a stop and a kill.
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
        """The address for clients."""

    @abstractmethod
    def command(self) -> Sequence[str]:
        """Program and arguments."""

    @abstractmethod
    def is_ready(self) -> bool:
        """Whether it accepts requests."""

    def prepare(self) -> None:  # noqa: B027 - most servers need nothing
        """Create what a start needs; called before each one."""

    def environment(self) -> Mapping[str, str]:
        """The environment variables of the process."""
        return os.environ

    @property
    def working_folder(self) -> Path:
        """The working folder of the process."""
        return ROOT

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.running

    @property
    def pid(self) -> int:
        assert self._process is not None, f"{self.name} was not started"
        return self._process.pid

    def start(self) -> Self:
        """Start it and wait until it is ready.

        Raises:
            OpsError: it ended, or was not ready in time; the message has the end of its log.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        for attempt in range(START_TRIES):
            try:
                self._start_once()
            except OpsError:
                self.stop()
                # Another process may have taken the port between choice and use.
                if not self._port_is_ours or attempt == START_TRIES - 1:
                    raise
                self.port = ports.choose()
            else:
                # From now on the port is fixed, so that clients find the server after a restart.
                self._port_is_ours = False
                return self
        raise AssertionError("unreachable")

    def stop(self) -> None:
        """Shut it down cleanly."""
        if self._process is not None:
            self._process.stop(number=self.stop_signal)

    def kill(self) -> None:
        """Kill it, as a crash would."""
        if self._process is not None:
            self._process.kill()

    def has_logged(self, text: str) -> bool:
        """Whether the log contains a text since the last start."""
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
            what=f"the start of {self.name} on port {self.port}",
            hint=f"read {self.log}",
        )
        if not process.running:
            raise OpsError(
                f"{self.name} ended at once with exit code {process.exit_code}:\n{process.log_tail()}",
                hint=f"read {self.log}",
            )

    def _is_answered_by(self, process: Process) -> bool:
        """Whether it is this process that listens on the port, and not another one that took it first."""
        return not self.url or process.listens_on(self.port)
