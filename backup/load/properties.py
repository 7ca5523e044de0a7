"""The properties of a database as a whole: owner, grants, settings, comment, connection limit.

``pg_restore`` leaves all of that out when it restores under another name, so it is read from the archive here.
"""

import re
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from psycopg import sql

from backup.confinement import Confinement
from backup.errors import DumpError, VerificationError
from backup.pipeline import ChildSource
from backup.postgres.identifiers import NAME
from backup.postgres.statements import SETTINGS, split
from backup.programs import Programs, clean_environment

# Lines of an archive's list of contents, as `2814; 0 0 DATABASE PROPERTIES - shop owner`.
_ENTRY = re.compile(
    rb"\d+; \d+ \d+ (?:DATABASE |DATABASE PROPERTIES |(?:COMMENT|ACL|SECURITY LABEL) - DATABASE )"
)
# Far larger than the list of contents of a hundred thousand tables.
MAX_BYTES = 256 << 20
_CREATE = re.compile(rb"CREATE DATABASE (?P<name>" + NAME + rb") WITH ")
# Statements that are not about the database: how the others are read, and who grants.
_PASSED = (*SETTINGS, b"SET SESSION AUTHORIZATION ", b"RESET SESSION AUTHORIZATION")


def properties(programs: Programs, archive: Path, name: str) -> list[bytes]:
    """The statements that give a database with another name the properties of the original."""
    listed = _printed(programs, archive.parent, ["--create", "--list", str(archive)])
    chosen = [line for line in listed.split(b"\n") if _ENTRY.match(line)]
    with tempfile.NamedTemporaryFile("wb", suffix=".list", dir=archive.parent) as wanted:
        wanted.write(b"\n".join(chosen) + b"\n")
        wanted.flush()
        arguments = ["--create", f"--use-list={wanted.name}", "--file=-", str(archive)]
        script = _printed(programs, archive.parent, arguments)
    return list(renamed(split(script), name))


def renamed(statements: Iterable[bytes], name: str) -> Iterator[bytes]:
    """Statements about one database, rewritten for another."""
    quoted, about = sql.Identifier(name).as_string().encode(errors="surrogateescape"), None
    for statement in statements:
        if original := created(statement):
            about = about_database(original)
        elif statement.startswith(_PASSED):
            yield statement
        elif about and (match := about.match(statement)):
            yield match[1] + quoted + statement[match.end() :]


def created(statement: bytes) -> bytes:
    """The quoted name of the database that a statement creates; empty if it creates none."""
    found = _CREATE.match(statement)
    return found["name"] if found else b""


def about_database(original: bytes) -> re.Pattern[bytes]:
    """The pattern of a statement about a database; the first group is everything before its name."""
    return re.compile(
        rb"((?:ALTER|COMMENT ON) DATABASE |(?:GRANT|REVOKE) [A-Z, ]+ ON DATABASE |ALTER ROLE "
        + NAME
        + rb" IN DATABASE "
        rb"|SECURITY LABEL (?:FOR " + NAME + rb" )?ON DATABASE )" + re.escape(original) + rb"(?= |;)"
    )


def _bounded(source: ChildSource) -> Iterator[bytes]:
    size = 0
    while piece := source.read():
        size += len(piece)
        if size > MAX_BYTES:
            raise VerificationError(
                f"the properties of the database have more than {MAX_BYTES} bytes",
                hint="do not use this backup",
            )
        yield piece


def _printed(programs: Programs, folder: Path, arguments: list[str]) -> bytes:
    command = [programs.path("pg_restore"), *arguments]
    hint = "its version must be at least that of the pg_dump that the manifest names"
    try:
        with ChildSource(
            command, env=clean_environment(), hint=hint, confinement=Confinement(folder)
        ) as source:
            return b"".join(_bounded(source))
    except DumpError as error:
        raise VerificationError(f"pg_restore cannot read the archive: {error.message}", hint=hint) from None
