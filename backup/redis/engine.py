"""Dumps a Redis server."""

import logging
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from redis.exceptions import NoPermissionError, RedisError, ResponseError

from backup.cancellation import answered
from backup.catalogue import layout
from backup.catalogue.manifest import Keyspace, Server
from backup.engine import DumpContext, DumpResult, Lock, PreflightResult
from backup.errors import DumpError, PreflightError
from backup.pipeline import transfer
from backup.redis.dsn import RedisAddress
from backup.redis.lock import key_lock
from backup.redis.product import product_of
from backup.redis.rdb import PERMISSIONS, RdbSource
from sidecar import OpsError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RedisEngine:
    """See :class:`backup.engine.Engine`."""

    address: RedisAddress

    def preflight(self) -> PreflightResult:
        info = info_of(self.address)
        # The server's own time, with sufficient precision.
        clock = (
            datetime.fromtimestamp(int(info["server_time_usec"]) / 1e6, UTC)
            if "server_time_usec" in info
            else None
        )
        return PreflightResult(
            client=str(product_of(info)),
            size=int(info["used_memory"]),
            clock=clock - datetime.now(UTC) if clock else None,
        )

    def lock(self) -> AbstractContextManager[Lock]:
        return key_lock(self.address)

    def dump(self, context: DumpContext) -> DumpResult:
        """Dump from a replica if one answers: a master's Sentinel would remember us as a lost replica."""
        source = replica_of(self.address, info_of(self.address)) or self.address
        taken, before = datetime.now(UTC), info_of(source)
        product = product_of(before)
        with context.timings.measure("dump"):
            stored = transfer(
                RdbSource(source, product, check=context.check),
                context.store,
                context.folder,
                layout.RDB,
                role="rdb",
                packing=context.packing,
                progress=context.progress,
            )
        after = _info_after(source)
        return DumpResult(
            taken=taken,
            server=Server(
                product=product.name,
                version=product.version,
                version_number=_number(product.version),
                system_identifier=str(before.get("master_replid", "")),
            ),
            objects=(stored,),
            facts={"keyspaces": keyspaces(before, after), "keys_changed": changes(before, after)},
        )


def info_of(address: RedisAddress) -> dict[str, Any]:
    """A server's INFO.

    Raises:
        PreflightError: it does not answer, or rejects us.
        DumpError: the user may not run INFO.
    """
    client = address.client()
    try:
        return dict(answered(lambda: client.info("everything")))
    except NoPermissionError as error:
        raise DumpError(f"Redis {address}: {error}", hint=f"its user needs {PERMISSIONS}") from error
    except RedisError as error:
        raise DumpError(f"Redis {address}: {error}", hint="check the server's log") from error
    finally:
        client.close()


def _info_after(address: RedisAddress) -> dict[str, Any]:
    """The server's INFO after the transfer. A server that does not answer then fails the dump, not the preflight.

    Raises:
        DumpError: it does not answer.
    """
    try:
        return info_of(address)
    except PreflightError as error:
        raise DumpError(error.message, hint=error.hint) from error


def has_database(address: RedisAddress, number: int) -> bool:
    """Whether a server has a database with this number, as far as it says so; INFO does not state how many there are."""
    try:
        client = address.client()
    except PreflightError:
        return True
    try:
        answered(lambda: client.select(number))
    except ResponseError as error:
        return "out of range" not in str(error)
    except RedisError:
        return True
    finally:
        client.close()
    return True


def replica_of(address: RedisAddress, info: Mapping[str, Any]) -> RedisAddress | None:
    """A replica that answers and is in sync with its master; None if there is none."""
    for number in range(int(info.get("connected_slaves", 0)) if info.get("role") == "master" else 0):
        slave = info.get(f"slave{number}", {})
        if not isinstance(slave, dict) or slave.get("state") != "online" or not slave.get("port"):
            continue
        candidate = address.at(str(slave["ip"]), int(slave["port"]))
        try:
            there = info_of(candidate) if candidate else {}
        except OpsError as error:
            log.info("the replica %s:%s is not used: %s", slave["ip"], slave["port"], error.message)
            continue
        if there.get("role") == "slave" and there.get("master_link_status") == "up":
            return candidate
    return None


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
            fields_expiring=max(
                _fields_expiring(before.get(name, none)), _fields_expiring(after.get(name, none))
            ),
        )
        for name in sorted(names, key=lambda name: int(name[2:]))
    )


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> int:
    """Upper bound of the changes to keys between two INFOs.

    A server counts them from its last save on. If it has saved in between, all its commands count.
    """

    def more(name: str) -> int:
        return max(0, int(after.get(name, 0)) - int(before.get(name, 0)))

    saved = before.get("rdb_last_save_time") != after.get("rdb_last_save_time")
    written = more("total_commands_processed" if saved else "rdb_changes_since_last_save")
    return written + more("expired_keys") + more("evicted_keys")


def _fields_expiring(space: Mapping[str, int]) -> int:
    """Number of keys with expiring fields; Redis and Valkey report it under different names."""
    return max(int(space.get(name, 0)) for name in ("subexpiry", "keys_with_volatile_items"))


def _number(version: str) -> int:
    """The version as a number, like PostgreSQL's: 7.0.15 → 70015."""
    numbers = [int(part) for part in version.split(".")[:3] if part.isdigit()]
    major, minor, patch = (*numbers, 0, 0, 0)[:3]
    return major * 10000 + minor * 100 + patch
