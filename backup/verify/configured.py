"""What the server of BACKUP_VERIFY_URL lacks for a verification."""

import re
from collections.abc import Collection, Iterator

from psycopg import Connection
from psycopg.rows import TupleRow

from backup.postgres.databases import Databases, databases
from backup.postgres.dsn import Address, parse
from backup.postgres.session import session
from backup.programs import Programs
from backup.settings.proofs import ProofSettings

# Roles that our role there may not make the owner of anything; one that does not exist is created first.
_FOREIGN = """
SELECT name FROM unnest(%s::text[]) AS name JOIN pg_roles me ON me.rolname = current_user LEFT JOIN pg_roles r ON r.rolname = name
WHERE NOT me.rolsuper AND CASE WHEN r.oid IS NULL THEN NOT me.rolcreaterole ELSE NOT pg_has_role(r.oid, 'MEMBER') END ORDER BY 1
"""
_UNAVAILABLE = """
SELECT name FROM unnest(%s::text[]) AS name WHERE name NOT IN (SELECT a.name FROM pg_available_extensions a) ORDER BY 1
"""
# What a server answers to a role that may not do what a restore does.
_REFUSED = re.compile(
    r"must be able to SET ROLE|must be (?:a )?(?:member|owner|superuser)|permission denied to (?:create|set|alter|grant)"
    r"|Only roles with"
)


def address_of(settings: ProofSettings) -> Address | None:
    """The configured server; None if a verification starts a throwaway one."""
    url = settings.verify_url
    return parse(url.get_secret_value(), "BACKUP_VERIFY_URL") if url is not None else None


def lacking(
    address: Address,
    programs: Programs,
    extensions: Collection[str],
    owners: Collection[str] = (),
) -> Iterator[tuple[str, str]]:
    """Each thing that it lacks, with the advice. Nothing is changed there.

    Args:
        extensions: the names of those that the database has.
        owners: roles that own objects of the database.

    Raises:
        PreflightError: it cannot be reached, or rejects the login.
    """
    with databases(address) as there, session(there.maintenance) as connection:
        yield from _version(connection, programs)
        yield from _role(there, connection, owners)
        if missing := [row[0] for row in connection.execute(_UNAVAILABLE, [list(extensions)])]:
            yield (
                f"BACKUP_VERIFY_URL: extensions are missing there: {', '.join(missing)}",
                "install them there",
            )


def major(address: Address) -> int:
    """The major version of PostgreSQL there."""
    with databases(address) as there, session(there.maintenance) as connection:
        return connection.info.server_version // 10000


def refused(errors: list[str]) -> Iterator[str]:
    """A description if a restore failed because of the role's privileges."""
    if any(map(_REFUSED.search, errors)):
        yield "the role of BACKUP_VERIFY_URL lacks privileges: use a superuser, or the owner of all objects"


def _version(connection: Connection[TupleRow], programs: Programs) -> Iterator[tuple[str, str]]:
    major = connection.info.server_version // 10000
    if major > programs.major("pg_dump"):
        yield (
            f"BACKUP_VERIFY_URL: PostgreSQL {major} runs there, pg_dump here is {programs.version('pg_dump')}",
            f"install PostgreSQL {major}'s programs, or set BACKUP_POSTGRES_BIN",
        )


def _role(
    there: Databases, connection: Connection[TupleRow], owners: Collection[str]
) -> Iterator[tuple[str, str]]:
    if not there.may_create():
        yield "BACKUP_VERIFY_URL: its role may not create databases", "ALTER ROLE … CREATEDB; there"
    if foreign := [row[0] for row in connection.execute(_FOREIGN, [list(owners)])]:
        yield (
            f"BACKUP_VERIFY_URL: its role may not give objects to {', '.join(foreign)}",
            "use a superuser there, or grant it these roles",
        )
