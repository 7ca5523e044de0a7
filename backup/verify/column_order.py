"""Rows whose columns came in another order.

A column that a parent got after its heirs stands behind theirs; restored it stands with the parent's others. So a healthy
copy is dumped with its columns in another order than the original was, and has to be read once more in that order.
"""

import hashlib
import re

from backup.postgres.dsn import Address
from backup.postgres.session import session
from backup.verify.digests import Digest

_NAME = r'(?:"(?:[^"]|"")+"|[^\s".(),]+)'
_COPY = re.compile(rf"COPY (?P<table>{_NAME}\.{_NAME}) \((?P<columns>.*)\) FROM stdin;\n")
# As pg_dump sets them, beside what a session of ours pins.
_LIKE_PG_DUMP = "SET intervalstyle = postgres; SET bytea_output = hex; SET synchronize_seqscans = off"


def equal_in_order(expected: Digest, found: Digest, database: Address) -> bool:
    """Whether rows that differ are equal when their columns are read in the order that is expected."""
    if expected.rows != found.rows or not _same_columns(expected.text, found.text):
        return False
    again = hashlib.sha256(found.owner + expected.text.encode())
    with session(database) as connection, connection.cursor() as cursor:
        cursor.execute(_LIKE_PG_DUMP)
        with cursor.copy(expected.text.replace(" FROM stdin;", " TO STDOUT").encode()) as rows:
            for piece in rows:
                again.update(piece)
    return again.hexdigest() == expected.sha256


def _same_columns(one: str, other: str) -> bool:
    mine, theirs = _COPY.fullmatch(one), _COPY.fullmatch(other)
    if mine is None or theirs is None or mine["table"] != theirs["table"]:
        return False
    first, second = (re.findall(_NAME, match["columns"]) for match in (mine, theirs))
    return first != second and sorted(first) == sorted(second)
