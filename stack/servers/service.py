"""One of our own programs as a server of the stack."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from sidecar.http import answers
from stack.paths import ROOT
from stack.ports import HOST
from stack.servers.base import Server


class Service(Server):
    """A program given by its command line.

    Args:
        name: its name in messages, and the name of its log.
        arguments: program and arguments.
        env: its whole environment.
        ready: path that responds when it is ready (``/healthz``), or None without HTTP.
        ready_text: text in its log when it is ready, for a program without HTTP.
        cwd: its working folder.
        before: called before each start.
    """

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        *,
        folder: Path,
        env: Mapping[str, str],
        port: int | None = None,
        log: Path | None = None,
        ready: str | None = None,
        ready_text: str | None = None,
        cwd: Path = ROOT,
        before: Callable[[], None] | None = None,
    ) -> None:
        self.name = name
        super().__init__(folder, port=port, log=log)
        self._arguments = list(arguments)
        self._env = dict(env)
        self._ready = ready
        self._ready_text = ready_text
        self._cwd = cwd
        self._before = before

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}" if self._ready else ""

    @property
    def working_folder(self) -> Path:
        return self._cwd

    def command(self) -> Sequence[str]:
        return self._arguments

    def environment(self) -> Mapping[str, str]:
        return self._env

    def prepare(self) -> None:
        if self._before is not None:
            self._before()

    def is_ready(self) -> bool:
        if self._ready is not None:
            return answers(f"{self.url}{self._ready}")
        return self._ready_text is None or self.has_logged(self._ready_text)
