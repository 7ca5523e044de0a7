"""Collects the planner's statistics of a restored database. A note reports each table that cannot be analysed."""

from collections.abc import Iterator

import psycopg
from psycopg import Connection, sql
from psycopg.rows import TupleRow

from backup.postgres.session import text_of

# Parents of foreign tables: their statistics would be read from another server, which may be unreachable, or the original's own.
_TABLES = """
WITH RECURSIVE elsewhere AS (
  SELECT inhparent AS parent FROM pg_inherits JOIN pg_class ON oid = inhrelid WHERE relkind = 'f'
  UNION SELECT inhparent FROM pg_inherits JOIN elsewhere ON inhrelid = parent)
SELECT n.nspname, c.relname, EXISTS (SELECT FROM elsewhere WHERE parent = c.oid)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'm') AND c.relpersistence <> 't' AND n.nspname <> 'information_schema'
ORDER BY 1, 2
"""


def collect(connection: Connection[TupleRow]) -> list[str]:
    """Collect them for all tables at once or, if that fails, table by table; returns a note for each failure."""
    tables = connection.execute(_TABLES).fetchall()
    if not any(remote for *_, remote in tables) and not _failure(connection, sql.SQL("ANALYZE")):
        return []
    return list(_one_by_one(connection, tables))


def _one_by_one(connection: Connection[TupleRow], tables: list[TupleRow]) -> Iterator[str]:
    for schema, name, remote in tables:
        table = sql.Identifier(schema, name)
        why = "a part of it is on another server" if remote else ""
        if reason := why or _failure(connection, sql.SQL("ANALYZE {}").format(table)):
            yield f"{schema}.{name} has no statistics for the planner: {reason}"


def _failure(connection: Connection[TupleRow], statement: sql.SQL | sql.Composed) -> str:
    """Why the server refuses a statement; empty if it does not.

    Raises:
        psycopg.Error: the connection is lost.
    """
    try:
        connection.execute(statement)
    except psycopg.Error as error:
        if connection.closed:
            raise
        return error.diag.message_primary or text_of(error)
    return ""
