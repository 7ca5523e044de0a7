"""Dumps a Redis server."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from redis.exceptions import RedisError

from backup.catalogue import layout
from backup.catalogue.manifest import Keyspace, Server
from backup.engine import DumpContext, DumpResult, Lock, PreflightResult
from backup.errors import DumpError
from backup.pipeline import transfer
from backup.redis.dsn import RedisAddress
from backup.redis.lock import key_lock
from backup.redis.rdb import RdbSource


@dataclass(frozen=True)
class RedisEngine:
    """See :class:`backup.engine.Engine`."""

    address: RedisAddress

    def preflight(self) -> PreflightResult:
        info = self._info()
        # The server's own time, as precise as is needed here.
        clock = (
            datetime.fromtimestamp(int(info["server_time_usec"]) / 1e6, UTC)
            if "server_time_usec" in info
            else None
        )
        return PreflightResult(
            client=f"redis {info['redis_version']}",
            size=int(info["used_memory"]),
            clock=clock - datetime.now(UTC) if clock else None,
        )

    def lock(self) -> AbstractContextManager[Lock]:
        return key_lock(self.address)

    def dump(self, context: DumpContext) -> DumpResult:
        taken, before = datetime.now(UTC), self._info()
        with context.timings.measure("dump"):
            stored = transfer(
                RdbSource(self.address, check=context.check), context.store, context.folder, layout.RDB,
                role="rdb", packing=context.packing, progress=context.progress,
            )  # fmt: skip
        return DumpResult(
            taken=taken,
            server=Server(
                version=before["redis_version"],
                version_number=_number(before["redis_version"]),
                system_identifier=str(before.get("master_replid", "")),
            ),
            objects=(stored,),
            facts={"keyspaces": keyspaces(before, self._info())},
        )

    def _info(self) -> dict[str, Any]:
        client = self.address.client()
        try:
            return dict(client.info("everything"))
        except RedisError as error:
            raise DumpError(f"Redis {self.address}: {error}", hint="check the server's log") from error
        finally:
            client.close()


def keyspaces(before: dict[str, Any], after: dict[str, Any]) -> tuple[Keyspace, ...]:
    """Keys by database, from INFO before and after the transfer."""
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
    """The version as a number, like PostgreSQL's: 7.0.15 → 70015."""
    numbers = [int(part) for part in version.split(".")[:3] if part.isdigit()]
    major, minor, patch = (*numbers, 0, 0, 0)[:3]
    return major * 10000 + minor * 100 + patch
