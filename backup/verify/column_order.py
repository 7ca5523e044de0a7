"""Compares rows whose columns are in a different order.

A column added to a parent table after its children were created comes last in the children; after a restore it comes
among the parent's columns. So a dump of a correct restore has its columns in a different order, and the rows have to
be read again in the original's order.
"""

import hashlib
import re

from backup.postgres.dsn import Address
from backup.postgres.session import session
from backup.verify.digests import Digest

_NAME = r'(?:"(?:[^"]|"")+"|[^\s".(),]+)'
_COPY = re.compile(rf"COPY (?P<table>{_NAME}\.{_NAME}) \((?P<columns>.*)\) FROM stdin;\n")


def equal_in_order(expected: Digest, found: Digest, database: Address) -> bool:
    """Whether rows that differ are equal when their columns are read in the expected order."""
    if expected.rows != found.rows or not _same_columns(expected.text, found.text):
        return False
    again = hashlib.sha256(found.owner + expected.text.encode())
    statement = expected.text.replace(" FROM stdin;", " TO STDOUT").encode()
    with session(database) as connection, connection.transaction(), connection.cursor() as cursor:
        cursor.execute(
            "SELECT set_config('client_encoding', getdatabaseencoding(), true)"
        )  # as pg_dump writes them
        with cursor.copy(statement) as rows:
            for piece in rows:
                again.update(piece)
    return again.hexdigest() == expected.sha256


def _same_columns(expected: str, found: str) -> bool:
    one, other = _COPY.fullmatch(expected), _COPY.fullmatch(found)
    if one is None or other is None or one["table"] != other["table"]:
        return False
    first, second = (re.findall(_NAME, match["columns"]) for match in (one, other))
    return first != second and sorted(first) == sorted(second)
