"""Checks of a Redis server, and of the programs here that verify its backups."""

from collections.abc import Iterator
from functools import partial

from backup.doctor.check import Check, Shared
from backup.errors import PreflightError
from backup.run import engine_for
from backup.targets import RedisTarget
from backup.wiring import Wiring


def checks(wiring: Wiring, target: RedisTarget, known: Shared) -> Iterator[Check]:
    """A server that cannot be reached gets one result."""
    name = f"redis {target.name}"
    asked = partial(known.asked, f"Redis {target.address}")
    reached = asked(name, lambda: _redis(wiring, target, known))
    yield reached
    if reached.ok:
        yield asked(f"{name}: RDB", lambda: _rdb(wiring, target))


def _redis(wiring: Wiring, target: RedisTarget, known: Shared) -> str:
    found = engine_for(wiring, target).preflight()
    known.sizes[target.name] = found.size
    return found.client


def _rdb(wiring: Wiring, target: RedisTarget) -> str | Check:
    """The first bytes of a real RDB, and whether the programs here load such a file."""
    from backup.redis.engine import info_of, replica_of  # Redis's client library takes a long time to load
    from backup.redis.product import modules_of, product_here, product_of, refusal, signature
    from backup.redis.rdb import RdbSource, beginning

    name = f"redis {target.name}: RDB"
    source = replica_of(target.address, info_of(target.address)) or target.address
    info = info_of(source)
    with RdbSource(source, product_of(info)) as reader:
        file = signature(beginning(reader))
    if file is None:
        return Check(name, False, "the reply is not an RDB", "check the server's log")
    try:
        reason = refusal(file, product_here(wiring.redis_programs, file.product))
    except PreflightError as error:
        return Check(name, None, f"{file}; nothing can be verified here: {error.message}", error.hint)
    fix = "install the server's own product and version, or set BACKUP_REDIS_BIN to its programs"
    if reason:
        return Check(name, False, f"{reason}: a backup could not be verified", fix)
    if (modules := modules_of(info)) and not wiring.settings.redis_modules.split():
        found = f"{file}; a verification here could not load keys of the modules {', '.join(modules)}"
        return Check(name, None, found, "set BACKUP_REDIS_MODULES to the files of those modules")
    return str(file)
