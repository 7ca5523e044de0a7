"""Makes the backup of a Redis server."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from redis.exceptions import RedisError

from backup import layout
from backup.errors import DumpError
from backup.making import Lock, Made, Ready, Work
from backup.manifest import Keyspace, Server
from backup.pipeline import transfer
from backup.redis.lock import key_lock
from backup.redis.rdb import RdbSource
from backup.targets import RedisTarget


@dataclass(frozen=True)
class RedisMaker:
    """See :class:`backup.making.Maker`."""

    target: RedisTarget

    def preflight(self) -> Ready:
        info = self._info()
        return Ready(client=f"redis {info['redis_version']}", size=int(info["used_memory"]))

    def lock(self) -> AbstractContextManager[Lock]:
        return key_lock(self.target.address)

    def make(self, work: Work) -> Made:
        taken, before = datetime.now(UTC), self._info()
        with work.stages.measure("dump"):
            stored = transfer(
                RdbSource(self.target.address, check=work.check), work.store, work.folder, layout.RDB,
                role="rdb", packing=work.packing, progress=work.progress,
            )  # fmt: skip
        return Made(
            taken=taken,
            server=Server(version=before["redis_version"], version_number=_number(before["redis_version"])),
            objects=(stored,),
            facts={"keyspaces": keyspaces(before, self._info())},
        )

    def _info(self) -> dict[str, Any]:
        client = self.target.address.client()
        try:
            return dict(client.info("everything"))
        except RedisError as error:
            raise DumpError(
                f"Redis {self.target.address}: {error}", hint="look into the server's log"
            ) from error
        finally:
            client.close()


def keyspaces(before: dict[str, Any], after: dict[str, Any]) -> tuple[Keyspace, ...]:
    """Keys by database, as INFO told them before and after the transfer."""
    none = {"keys": 0, "expires": 0}
    names = [name for name in {**before, **after} if name.startswith("db") and name[2:].isdigit()]
    return tuple(
        Keyspace(
            number=int(name[2:]),
            keys=before.get(name, none)["keys"],
            keys_after=after.get(name, none)["keys"],
            expiring=max(before.get(name, none)["expires"], after.get(name, none)["expires"]),
        )
        for name in sorted(names, key=lambda name: int(name[2:]))
    )


def _number(version: str) -> int:
    """7.0.15 → 70015, like PostgreSQL's."""
    numbers = [int(part) for part in version.split(".")[:3] if part.isdigit()]
    major, minor, patch = (*numbers, 0, 0, 0)[:3]
    return major * 10000 + minor * 100 + patch
