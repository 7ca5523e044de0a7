"""The properties of a database itself: owner, grants, settings, comment, connection limit.

``pg_restore`` omits them when it restores under another name, so this module reads them from the archive.
"""

import re
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from psycopg import sql

from backup.confinement import Confinement
from backup.errors import DumpError, VerificationError
from backup.pipeline import ChildSource
from backup.programs import Programs, clean_environment

_NAME = r'(?:"(?:[^"]|"")+"|[^\s";]+)'
# Lines of an archive's table of contents, such as `2814; 0 0 DATABASE PROPERTIES - shop owner`.
_ENTRY = re.compile(
    r"\d+; \d+ \d+ (?:DATABASE |DATABASE PROPERTIES |(?:COMMENT|ACL|SECURITY LABEL) - DATABASE )"
)
_CREATE = re.compile(rf"CREATE DATABASE (?P<name>{_NAME}) WITH ")
_SKIPPED = ("\\", "SET ", "SELECT pg_catalog.set_config(", "CREATE DATABASE ", "--")


def properties(programs: Programs, archive: Path, name: str) -> list[str]:
    """The statements that apply the original's properties to a database with another name."""
    listed = _printed(programs, archive.parent, ["--create", "--list", str(archive)])
    chosen = [line for line in listed if _ENTRY.match(line)]
    with tempfile.NamedTemporaryFile("w", suffix=".list", dir=archive.parent) as wanted:
        wanted.write("\n".join(chosen) + "\n")
        wanted.flush()
        arguments = ["--create", f"--use-list={wanted.name}", "--file=-", str(archive)]
        text = _printed(programs, archive.parent, arguments)
    return list(renamed(text, name))


def renamed(lines: Iterable[str], name: str) -> Iterator[str]:
    """Rewrite statements about one database into statements about another."""
    quoted, original = sql.Identifier(name).as_string(), ""
    for line in lines:
        if found := _CREATE.match(line):
            original = found["name"]
        if line.startswith(_SKIPPED):
            continue
        yield _about(original).sub(lambda match: match[1] + quoted + match[2], line) if original else line


def _about(original: str) -> re.Pattern[str]:
    return re.compile(
        rf"^((?:ALTER|COMMENT ON) DATABASE |(?:GRANT|REVOKE) .* ON DATABASE |ALTER ROLE {_NAME} IN DATABASE "
        rf"|SECURITY LABEL .*ON DATABASE ){re.escape(original)}( |;)"
    )


def _printed(programs: Programs, folder: Path, arguments: list[str]) -> list[str]:
    command = [programs.path("pg_restore"), *arguments]
    hint = "use a pg_restore that is at least as new as the pg_dump that the manifest names"
    try:
        with ChildSource(
            command, env=clean_environment(), hint=hint, confinement=Confinement(folder)
        ) as source:
            return b"".join(iter(source.read, b"")).decode(errors="surrogateescape").splitlines()
    except DumpError as error:
        raise VerificationError(f"pg_restore cannot read the archive: {error.message}", hint=hint) from None
