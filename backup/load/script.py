"""Loads a plain SQL script of ``pg_dump`` into an empty database, over the server's own protocol.

``psql`` does not read it, because its commands run programs and write files here. So rows go through COPY, and everything else
is carried out statement by statement.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import BinaryIO

import psycopg

from backup.cancellation import Check, never
from backup.errors import DumpError
from backup.load.execution import Runner, runner, without_values
from backup.load.pg_restore import ignorable_reason
from backup.postgres.dsn import Address
from backup.postgres.identifiers import NAME, unquoted
from backup.postgres.session import text_of
from backup.postgres.statements import Splitter

HEADER = re.compile(rb"-- PostgreSQL database dump\r?\n")
_TRAILER = re.compile(rb"-- PostgreSQL database dump complete\r?\n")
# What Windows programs write at the beginning: the text is UTF-8, or it is UTF-16.
_UTF8, UTF16 = b"\xef\xbb\xbf", (b"\xff\xfe", b"\xfe\xff")
_HEADER_BYTES, _TRAILER_BYTES = 4096, 4096
_END = b"\\.\n"
COPY = re.compile(rb"COPY (?:(?P<schema>" + NAME + rb")\.)?(?P<name>" + NAME + rb") ")
_COPY = re.compile(COPY.pattern + rb".*FROM stdin;", re.DOTALL)
# In place of schemas in names, before PostgreSQL 11.
_PATH = re.compile(rb"SET search_path = (?P<schema>" + NAME + rb"), pg_catalog;")
_CONNECT = re.compile(rb"\\connect\s")
# The database of the script has another name here, or none.
_OF_DATABASE = re.compile(
    rb"(?:CREATE|DROP|ALTER|COMMENT ON) DATABASE |(?:GRANT|REVOKE) [A-Z, ]+ ON DATABASE |ALTER ROLE \S+ IN DATABASE ",
)
_VERSION = re.compile(rb"^-- Dumped from database version (?P<version>\S+)", re.MULTILINE)
_TABLESPACE = b"SET default_tablespace = "
# What ``pg_dump --clean`` writes before it creates anything: without --if-exists, it expects the objects of an earlier restore.
_CLEAN = re.compile(
    rb"DROP |ALTER TABLE .* (?:DROP (?:CONSTRAINT|DEFAULT|EXPRESSION)|DETACH PARTITION)\b|SELECT pg_catalog\.lo_unlink\(",
    re.DOTALL,
)
_MISSING = (
    psycopg.errors.UndefinedTable,
    psycopg.errors.UndefinedObject,
    psycopg.errors.UndefinedFunction,
    psycopg.errors.UndefinedColumn,
    psycopg.errors.InvalidSchemaName,
)
MAX_SHOWN = 200


@dataclass
class Loaded:
    """What a script contained.

    Attributes:
        rows: of each table whose rows came through COPY.
        schema: where names without one belong.
    """

    rows: Counter[tuple[str, str]] = field(default_factory=Counter)
    schema: bytes = b"public"


def is_script(file: Path) -> bool:
    """Whether a file is a script of pg_dump, by its beginning."""
    with file.open("rb") as opened:
        return HEADER.search(opened.read(_HEADER_BYTES)) is not None


def version(file: Path) -> str:
    """The version of the server that the script is from, as far as it says so."""
    with file.open("rb") as opened:
        found = _VERSION.search(opened.read(_HEADER_BYTES))
    return found["version"].decode(errors="replace") if found else "of unknown version"


def check_whole(file: Path) -> None:
    """Raises DumpError if the script was cut off, or has several databases."""
    with file.open("rb") as opened:
        opened.seek(max(0, file.stat().st_size - _TRAILER_BYTES))
        if not _TRAILER.search(opened.read()):
            raise DumpError(
                f"{file} was cut off: it does not end with the line '-- PostgreSQL database dump complete'",
                hint="copy it whole, or dump again",
            )
    databases = sum(1 for kind, _ in pieces(file) if kind == "connect")
    if databases > 1:
        raise DumpError(
            f"{file} has {databases} databases", hint="dump each of them separately: pg_dump NAME > NAME.sql"
        )


def statements(file: Path) -> Iterator[bytes]:
    """All statements besides the rows."""
    return (text for kind, text in pieces(file) if kind == "statement")


def has_rows(file: Path) -> bool:
    """Whether a script has rows of tables."""
    return any(
        kind == "copy" or (kind == "statement" and text.startswith(b"INSERT INTO "))
        for kind, text in pieces(file)
    )


def pieces(file: Path) -> Iterator[tuple[str, bytes]]:
    """The script in pieces: ``statement``; ``copy``, the lines of its ``row``s, and their ``end``; and ``connect``."""
    splitter = Splitter()
    with file.open("rb") as opened:
        lines = _lines(opened)
        for line in lines:
            if splitter.between and _CONNECT.match(line):
                yield "connect", line
            for statement in splitter.line(line):
                if _COPY.fullmatch(statement):
                    yield "copy", statement
                    yield from _rows(lines)
                else:
                    yield "statement", statement
    if splitter.rest().strip():
        raise DumpError(f"{file}: its last statement does not end", hint="copy it whole, or dump again")


def _lines(opened: BinaryIO) -> Iterator[bytes]:
    """The lines as pg_dump wrote them: on Windows, its standard output gets a carriage return before each line feed."""
    if opened.read(len(_UTF8)) != _UTF8:
        opened.seek(0)
    beginning = opened.tell()
    found = HEADER.search(opened.read(_HEADER_BYTES))
    opened.seek(beginning)
    if found is None or not found[0].endswith(b"\r\n"):
        return iter(opened)
    return (line[:-2] + b"\n" if line.endswith(b"\r\n") else line for line in opened)


def _rows(lines: Iterator[bytes]) -> Iterator[tuple[str, bytes]]:
    for line in lines:
        if line == _END:
            yield "end", b""
            return
        yield "row", line
    raise DumpError("the rows of a table do not end", hint="copy the file whole, or dump again")


def load_script(file: Path, address: Address, check: Check = never) -> Loaded:
    """Carry out a script; the first error that cannot be ignored ends it.

    Raises:
        DumpError: the server refused a statement.
    """
    loaded, found = Loaded(), pieces(file)
    with runner(address, check) as running:
        for kind, text in found:
            if kind == "statement" and (_OF_DATABASE.match(text) or text.startswith(_TABLESPACE)):
                continue
            try:
                if kind == "copy":
                    _copy(running, text, found, loaded)
                elif kind == "statement":
                    running.execute(text)
                    if path := _PATH.fullmatch(text):
                        loaded.schema = path["schema"]
            except psycopg.Error as error:
                _refused(error, text)
    return loaded


def _copy(running: Runner, statement: bytes, found: Iterator[tuple[str, bytes]], loaded: Loaded) -> None:
    table = _COPY.fullmatch(statement)
    assert table is not None
    count = 0

    def load() -> None:
        nonlocal count
        with running.connection.cursor() as cursor, cursor.copy(statement) as rows:
            for _, row in takewhile(lambda piece: piece[0] == "row", found):
                rows.write(row)
                count += 1

    running.wait(load)
    loaded.rows[unquoted(table["schema"] or loaded.schema), unquoted(table["name"])] += count


def _refused(error: psycopg.Error, statement: bytes) -> None:
    if isinstance(error, _MISSING) and _CLEAN.match(statement):
        return
    message = error.diag.message_primary or text_of(error)
    if ignorable_reason(message, statement.decode(errors="replace")):
        return
    about = " ".join(statement[:MAX_SHOWN].decode(errors="replace").split())
    raise DumpError(
        f"PostgreSQL refused the script: {without_values(message)} ({about})",
        hint="if something is missing here, such as an extension or a newer version, install it",
    ) from None
