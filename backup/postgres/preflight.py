"""Checks the conditions of a dump before anything is changed, and names each one that is not met."""

import logging
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

from psycopg import Connection
from psycopg.rows import TupleRow

from backup.catalogue.manifest import Server
from backup.errors import PreflightError
from backup.postgres import inventory
from backup.postgres.dsn import Address
from backup.postgres.exclusion import NOTHING, Exclusion, needed, resolve
from backup.postgres.session import session
from backup.programs import Programs, major_of

log = logging.getLogger(__name__)

MAX_NAMED = 5
# The server has some room beyond that, so the dump may still succeed.
LOCKS_MESSAGE = "a dump takes about %d locks and the server has room for about %d: set max_locks_per_transaction to %d there, and restart it"


@dataclass(frozen=True)
class Preflight:
    """The result of the checks."""

    server: Server
    client: str
    size: int
    clock: timedelta


@dataclass(frozen=True)
class _Installed:
    """What this host's programs print. They start while the server accepts a connection, which takes as long.

    Attributes:
        client: version of pg_dump.
        folder: the control files of extensions; None if nobody asked.
    """

    client: Future[str]
    folder: Future[Path] | None


def preflight(
    address: Address, programs: Programs, exclusion: Exclusion = NOTHING, *, verified_here: bool = True
) -> Preflight:
    """Check the server, the versions and the privileges.

    Args:
        exclusion: excluded tables need not be readable, but the rest must be restorable without them.
        verified_here: whether this host's programs verify the backup, and need the database's extensions.

    Raises:
        PreflightError: a backup cannot be taken.
    """
    programs.path("pg_dump"), programs.path("pg_dumpall")
    with ThreadPoolExecutor(2, thread_name_prefix="programs") as pool:
        client = pool.submit(programs.version, "pg_dump")
        folder = pool.submit(programs.extension_folder) if verified_here else None
        with session(address) as connection:
            return _checked(connection, address, exclusion, _Installed(client, folder))


def _checked(
    connection: Connection[TupleRow], address: Address, exclusion: Exclusion, installed: _Installed
) -> Preflight:
    _check_revoked(inventory.revoked(connection), address)
    server, client = inventory.server(connection), installed.client.result()
    _check_versions(server, client)
    _check_connections(inventory.too_few_connections(connection))
    excluded = resolve(connection, exclusion)
    _check_needed(needed(connection, excluded))
    unreadable = inventory.unreadable(connection, excluded.tables)
    _check_rights(unreadable, address, inventory.acting_as(connection) if unreadable else "")
    for pattern in excluded.unmatched:
        log.warning("no table matches %s, which is to be left out", pattern)
    if installed.folder is not None:
        names = [extension.name for extension in inventory.extensions(connection)]
        _check_extensions(names, installed.folder)
    if (locks := inventory.locks_to_set(connection, major_of(client))) is not None:
        log.warning(LOCKS_MESSAGE, *locks)
    ahead = inventory.clock(connection) - datetime.now(UTC)
    return Preflight(server, client, inventory.size(connection), ahead)


def _check_versions(server: Server, client: str) -> None:
    if major_of(client) < server.version_number // 10000:
        raise PreflightError(
            f"the server is PostgreSQL {server.version}, pg_dump is {client}: pg_dump must be at least as new as the server",
            hint=f"install PostgreSQL {server.version_number // 10000}'s programs, or set BACKUP_POSTGRES_BIN",
        )


def _check_extensions(names: list[str], installed: Future[Path]) -> None:
    """A missing extension does not prevent the dump, but the backup cannot be verified here."""
    try:
        folder = installed.result()
    except PreflightError:
        return  # a host that only dumps has no server programs
    missing = [name for name in names if not (folder / f"{name}.control").exists()]
    if missing:
        log.warning(
            "this backup cannot be verified here, because the extension is missing: %s", ", ".join(missing)
        )


def _check_revoked(found: list[tuple[str, str]], address: Address) -> None:
    for privilege, name in found:
        user = address.public.get("user", "the backup's role")
        verb = "call" if privilege.startswith("EXECUTE") else "read"
        raise PreflightError(
            f"{user} may not {verb} {name}: everyone may, but that was revoked on this server",
            hint=f"GRANT {privilege} {name} TO {user};",
        )


def _check_rights(unreadable: list[tuple[str, str]], address: Address, acting: str) -> None:
    """The first kind of object that may not be read, with the statement that grants it.

    Args:
        acting: the role that the backup's role is set to act as, which none of our connections does.
    """
    if not unreadable:
        return
    user = address.public.get("user", "the backup's role")
    kind = unreadable[0][0]
    names = [name for each, name in unreadable if each == kind]
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    what = {"rows": "all rows of ", "large object": "the large objects ", "sequence": "the sequences "}.get(
        kind, ""
    )
    raise PreflightError(
        f"{user} may not read {what}{', '.join(names[:MAX_NAMED])}{more}",
        hint=_ACT.format(user, acting, quote(f"-c role={acting}")) if acting else _HINTS[kind].format(user),
    )


def _check_needed(reasons: list[str]) -> None:
    if reasons:
        more = f" and {len(reasons) - MAX_NAMED} more" if len(reasons) > MAX_NAMED else ""
        raise PreflightError(
            f"a backup without the excluded tables or rows could not be restored: {'; '.join(reasons[:MAX_NAMED])}{more}",
            hint="change BACKUP_EXCLUDE_TABLES and BACKUP_EXCLUDE_ROWS: leave out both sides, or neither",
        )


def _check_connections(few: list[tuple[str, int]]) -> None:
    for name, limit in few:
        raise PreflightError(
            f"{name} allows {limit} connections, a backup needs {inventory.CONNECTIONS} at once",
            hint=f"raise its CONNECTION LIMIT to {inventory.CONNECTIONS + 2} or more",
        )


_ACT = "{} is set to act as {}; a backup does so only if its URL says so: add ?options={} to it"
_HINTS = {
    "table": "GRANT pg_read_all_data TO {};",
    "sequence": "GRANT pg_read_all_data TO {};",
    "rows": "a policy hides rows from it: ALTER ROLE {} BYPASSRLS;",
    "large object": "no role for reading covers them: GRANT SELECT ON LARGE OBJECT … TO {}, or use their owner",
}
