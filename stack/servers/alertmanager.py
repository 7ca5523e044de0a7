"""Alertmanager."""

import socket
from pathlib import Path

from stack.ports import HOST
from stack.servers.monitor import Monitor


class Alertmanager(Monitor):
    """Alertmanager with a configuration file, without a cluster.

    Args:
        web_config: a Prometheus web-config file with the users of its pages.
    """

    name = "alertmanager"
    storage = "--storage.path"

    def __init__(
        self,
        folder: Path,
        *,
        config: Path,
        port: int | None = None,
        log: Path | None = None,
        web_config: Path | None = None,
    ) -> None:
        super().__init__(folder, config=config, port=port, log=log)
        self.is_open = web_config is None
        users = [f"--web.config.file={web_config}"] if web_config else []
        self.options = ("--cluster.listen-address=", *users)

    def is_ready(self) -> bool:
        if self.is_open:
            return super().is_ready()
        # With a password, it refuses every request as soon as it listens.
        with socket.socket() as probe:
            return probe.connect_ex((HOST, self.port)) == 0
