"""Checks the conditions of a dump before anything is changed, and names each one that is not met."""

import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from backup.catalogue.manifest import Server
from backup.errors import PreflightError
from backup.postgres import inventory
from backup.postgres.dsn import Address
from backup.postgres.session import session
from backup.programs import Programs

log = logging.getLogger(__name__)

MOST_NAMED = 5


@dataclass(frozen=True)
class Preflight:
    """The result of the checks."""

    server: Server
    client: str
    size: int
    clock: timedelta


def preflight(address: Address, programs: Programs) -> Preflight:
    """Check the server, the versions and the privileges.

    Raises:
        PreflightError: a backup cannot be taken.
    """
    client, major = programs.version("pg_dump"), programs.major("pg_dump")
    programs.path("pg_dumpall")
    with session(address) as connection:
        server = inventory.server(connection)
        _check_versions(server, client, major)
        _check_rights(inventory.unreadable(connection), address)
        _look_for_extensions([extension.name for extension in inventory.extensions(connection)], programs)
        ahead = inventory.clock(connection) - datetime.now(UTC)
        return Preflight(server, client, inventory.size(connection), ahead)


def _check_versions(server: Server, client: str, major: int) -> None:
    if major < server.version_number // 10000:
        raise PreflightError(
            f"the server is PostgreSQL {server.version}, pg_dump is {client}: pg_dump must be at least as new as the server",
            hint=f"install PostgreSQL {server.version_number // 10000}'s programs, or set BACKUP_POSTGRES_BIN",
        )


def _look_for_extensions(names: list[str], programs: Programs) -> None:
    """A missing extension does not prevent the dump, but the backup cannot be verified here."""
    try:
        folder = programs.extension_folder()
    except PreflightError:
        return  # a host that only dumps has no server programs
    missing = [name for name in names if not (folder / f"{name}.control").exists()]
    if missing:
        log.warning(
            "this backup cannot be verified here, because the extension is missing: %s", ", ".join(missing)
        )


def _check_rights(unreadable: list[str], address: Address) -> None:
    if unreadable:
        more = f" and {len(unreadable) - MOST_NAMED} more" if len(unreadable) > MOST_NAMED else ""
        user = address.public.get("user", "the backup's role")
        raise PreflightError(
            f"{user} may not read {', '.join(unreadable[:MOST_NAMED])}{more}",
            hint=f"GRANT pg_read_all_data TO {user};",
        )
