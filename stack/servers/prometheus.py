"""Prometheus."""

from collections.abc import Sequence
from pathlib import Path

from sidecar.http import answers
from stack.ports import HOST
from stack.programs import find
from stack.servers.base import Server


class Prometheus(Server):
    """Prometheus on a configuration file."""

    name = "prometheus"

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
            str(find("prometheus")),
            f"--config.file={self.config}",
            f"--storage.tsdb.path={self.folder / 'data'}",
            f"--web.listen-address={HOST}:{self.port}",
            f"--web.external-url={self.url}",
            "--web.enable-lifecycle",
        ]

    def is_ready(self) -> bool:
        return answers(f"{self.url}/-/ready")
