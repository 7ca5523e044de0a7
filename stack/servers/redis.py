"""Redis."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import redis

from stack.ports import HOST
from stack.programs import find
from stack.servers.base import Server


class Redis(Server):
    """A server that writes nothing to disk unless its options say so.

    Args:
        options: settings of redis.conf, e.g. ``{"appendonly": "yes"}``.
    """

    name = "redis"

    def __init__(
        self,
        folder: Path,
        *,
        port: int | None = None,
        log: Path | None = None,
        options: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(folder, port=port, log=log)
        self.options = {"save": "", **(options or {})}

    @property
    def url(self) -> str:
        return f"redis://{HOST}:{self.port}/0"

    def command(self) -> Sequence[str]:
        settings = {"port": str(self.port), "bind": HOST, "dir": str(self.folder), **self.options}
        flags = [word for name, value in settings.items() for word in (f"--{name}", value)]
        return [str(find("redis-server")), *flags]

    def is_ready(self) -> bool:
        try:
            with redis.Redis.from_url(self.url, socket_timeout=2) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False
