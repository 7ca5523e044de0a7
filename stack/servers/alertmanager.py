"""Alertmanager."""

import socket
from collections.abc import Sequence
from pathlib import Path

from sidecar.http import answers
from stack.ports import HOST
from stack.programs import find
from stack.servers.base import Server


class Alertmanager(Server):
    """Alertmanager on a configuration file, alone (no cluster).

    Args:
        web_config: a Prometheus web-config file with the users of its pages.
    """

    name = "alertmanager"

    def __init__(
        self,
        folder: Path,
        *,
        config: Path,
        port: int | None = None,
        log: Path | None = None,
        web_config: Path | None = None,
    ) -> None:
        super().__init__(folder, port=port, log=log)
        self.config, self.web_config = config, web_config

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def command(self) -> Sequence[str]:
        return [
            str(find("alertmanager")),
            f"--config.file={self.config}",
            f"--storage.path={self.folder / 'data'}",
            f"--web.listen-address={HOST}:{self.port}",
            f"--web.external-url={self.url}",
            "--cluster.listen-address=",
            *([f"--web.config.file={self.web_config}"] if self.web_config else []),
        ]

    def is_ready(self) -> bool:
        if self.web_config is None:
            return answers(f"{self.url}/-/ready")
        # With a password, it refuses every request as soon as it listens.
        with socket.socket() as probe:
            return probe.connect_ex((HOST, self.port)) == 0
