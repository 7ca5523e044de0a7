"""The two dumps of a backup: the database, and the roles that it needs."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from psycopg.conninfo import make_conninfo

from backup.cancellation import Check, never
from backup.pipeline import ChildSource
from backup.postgres.children import child_access
from backup.postgres.dsn import Address
from backup.programs import Programs

# Rows of partitions are restored through the topmost table, which finds the right partition for each.
THROUGH_ROOT = "--load-via-partition-root"
_HINT = "read pg_dump's message; run: python -m backup doctor"
# What libpq takes for parameters or a URL instead of a name (recognized_connection_string in fe-connect.c).
_PARAMETERS = re.compile(r"^postgres(?:ql)?://|=")


@contextmanager
def archive(
    address: Address,
    programs: Programs,
    snapshot: str,
    encoding: str,
    check: Check = never,
    options: Sequence[str] = (),
) -> Iterator[ChildSource]:
    """``pg_dump -Fc`` of one snapshot, uncompressed: zstd after it is faster and compresses better.

    Args:
        encoding: the database's own encoding, so that no character is converted, whatever its settings say.
        options: further options of pg_dump.
    """
    command = [
        programs.path("pg_dump"),
        "--format=custom",
        "--compress=0",
        f"--snapshot={snapshot}",
        f"--encoding={encoding}",
        "--no-password",
        "--lock-wait-timeout=15s",
        *options,
        f"--dbname={address.conninfo}",
    ]
    with (
        child_access(address) as (env, fds),
        ChildSource(command, env=env, pass_fds=fds, hint=_HINT, check=check) as source,
    ):
        yield source


@contextmanager
def globals_sql(address: Address, programs: Programs, check: Check = never) -> Iterator[ChildSource]:
    """Roles, memberships and tablespaces as SQL, without passwords: reading those needs a superuser.

    The catalogue does not know the encoding of names and comments of roles: they are dumped as the database of the address sees them.
    """
    command = [
        programs.path("pg_dumpall"),
        "--globals-only",
        f"--database={_named(address.database)}",
        "--no-role-passwords",
        "--no-password",
        f"--dbname={address.conninfo}",
    ]
    with (
        child_access(address) as (env, fds),
        ChildSource(command, env=env, pass_fds=fds, hint=_HINT, check=check) as source,
    ):
        yield source


def _named(database: str) -> str:
    """The name of a database for pg_dumpall, which reads one such as ``a=b`` as connection parameters."""
    return make_conninfo("", dbname=database) if _PARAMETERS.search(database) else database
