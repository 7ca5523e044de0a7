"""All checks, in their order."""

from collections.abc import Iterator

from backup.doctor import host, postgres, protection, redis, stores
from backup.doctor.check import Check, Shared, carried_out
from backup.targets import PostgresTarget
from backup.wiring import Wiring


def examine(wiring: Wiring) -> Iterator[Check]:
    """Run all checks. Each yields exactly one result, whatever happens."""
    known = Shared()
    for store in wiring.stores:
        yield from stores.checks(wiring, store, known)
    if wiring.offsite is not None:
        yield carried_out("store offsite: key", lambda: protection.own_key(wiring))
    yield carried_out("signatures", lambda: protection.signatures(wiring))
    yield carried_out("encryption", lambda: protection.encryption(wiring))
    if any(isinstance(target, PostgresTarget) for target in wiring.targets):
        yield from host.program_checks(wiring)
    if wiring.discovery is not None:
        yield carried_out("databases", lambda: _discovered(wiring))
    for target in wiring.targets:
        if isinstance(target, PostgresTarget):
            yield from postgres.checks(wiring, target, known)
        else:
            yield from redis.checks(wiring, target, known)
    yield carried_out("connections", lambda: protection.connections(wiring))
    yield carried_out("secrets", lambda: protection.secrets(wiring))
    yield from host.command_checks(wiring)
    yield from (check for server in wiring.servers for check in postgres.server_checks(server, known))
    yield carried_out("confinement", protection.confinement)
    yield from host.folder_checks(wiring, known)


def _discovered(wiring: Wiring) -> str | Check:
    wiring.discover()
    names = [target.name for target in wiring.targets]
    if not names:
        return Check("databases", False, "no database to back up was found", "see BACKUP_DISCOVER_SKIP")
    found, discovery = ", ".join(names), wiring.discovery
    if discovery and discovery.aside:
        found += (
            f"; not backed up, because a restore created them or set them aside: {', '.join(discovery.aside)}"
        )
    if discovery and discovery.closed:
        closed = ", ".join(discovery.closed)
        return Check(
            "databases",
            None,
            f"{found}; not backed up, because they are templates, allow no connections, or are partly dropped: {closed}",
            "add them to BACKUP_DISCOVER_SKIP if that is intended",
        )
    return found
