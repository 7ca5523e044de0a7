"""Alertmanager."""

from collections.abc import Sequence
from pathlib import Path

from sidecar.http import answers
from stack.ports import HOST
from stack.programs import find
from stack.servers.base import Server


class Alertmanager(Server):
    """Alertmanager on a configuration file, alone (no cluster)."""

    name = "alertmanager"

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
            str(find("alertmanager")), f"--config.file={self.config}", f"--storage.path={self.folder / 'data'}",
            f"--web.listen-address={HOST}:{self.port}", f"--web.external-url={self.url}",
            "--cluster.listen-address=",
        ]  # fmt: skip

    def is_ready(self) -> bool:
        return answers(f"{self.url}/-/ready")
