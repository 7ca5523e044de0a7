"""The common base of Prometheus and Alertmanager, which share options and the readiness page."""

from collections.abc import Sequence
from pathlib import Path

from sidecar.http import answers
from stack.ports import HOST
from stack.programs import find
from stack.servers.base import Server


class Monitor(Server):
    """A program of the Prometheus project, run with a configuration file.

    Attributes:
        storage: the option that sets its data folder.
        options: further options.
    """

    storage = ""
    options: Sequence[str] = ()

    def __init__(
        self, folder: Path, *, config: Path, port: int | None = None, log: Path | None = None
    ) -> None:
        super().__init__(folder, port=port, log=log)
        self.config = config

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def command(self) -> Sequence[str]:
        return [
            str(find(self.name)),
            f"--config.file={self.config}",
            f"{self.storage}={self.folder / 'data'}",
            f"--web.listen-address={HOST}:{self.port}",
            f"--web.external-url={self.url}",
            *self.options,
        ]

    def is_ready(self) -> bool:
        return answers(f"{self.url}/-/ready")
