"""Compares tables whose columns are in a different order.

A column that was added to a parent table after its children were created comes last in the children; after a restore it
comes among the parent's columns. So does every column of a table that became a child later. A dump of a correct restore
then has the columns in a different order, in the definition and in the rows. But where another table contains rows of such
a table as values, these are wrong: see :mod:`backup.postgres.nested_types`.
"""

import hashlib
import re

from backup.postgres.dsn import Address
from backup.postgres.identifiers import NAME
from backup.postgres.session import session
from backup.verify.digests import Digest

_NAME = re.compile(NAME)
_COPY = re.compile(
    rb"COPY (?P<table>" + NAME + rb"\." + NAME + rb") \((?P<columns>.*)\) FROM stdin;\n", re.DOTALL
)
_END = " FROM stdin;\n"


def equal_in_order(expected: Digest, found: Digest, database: Address) -> bool:
    """Whether rows that differ are equal when their columns are read in the expected order."""
    if expected.rows != found.rows or not reordered(expected, found):
        return False
    again = hashlib.sha256(found.owner + expected.text.encode())
    statement = f"{expected.text.removesuffix(_END)} TO STDOUT".encode()
    with session(database) as connection, connection.transaction(), connection.cursor() as cursor:
        cursor.execute(
            "SELECT set_config('client_encoding', getdatabaseencoding(), true)"
        )  # as pg_dump writes them
        with cursor.copy(statement) as rows:
            for piece in rows:
                again.update(piece)
    return again.hexdigest() == expected.sha256


def reordered(expected: Digest, found: Digest) -> bool:
    """Whether the rows of a table have the same columns in a different order."""
    if expected.rows is None or expected.text == found.text:
        return False
    dumped, restored = _COPY.fullmatch(expected.text.encode()), _COPY.fullmatch(found.text.encode())
    if dumped is None or restored is None or dumped["table"] != restored["table"]:
        return False
    first, second = (_NAME.findall(match["columns"]) for match in (dumped, restored))
    return first != second and sorted(first) == sorted(second)
