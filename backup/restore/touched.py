"""Whether someone has written to a restored database since it was verified.

The server counts the rows that are written to each table, and every row of a catalogue has the transaction that wrote it. Neither
is a proof, but both cost milliseconds, and reading changes neither.
"""

from contextlib import suppress

import psycopg
from psycopg import Connection
from psycopg.rows import TupleRow

from backup.postgres.databases import Mark, Written
from backup.postgres.dsn import Address
from backup.postgres.session import session
from sidecar import OpsError
from sidecar.humanize import counted

# The first version whose counters are complete as soon as a session has ended.
_COUNTERS = 150000
_ROWS = r"""
SELECT coalesce(sum(n_tup_ins + n_tup_upd + n_tup_del), 0)::bigint FROM pg_stat_all_tables
WHERE relid = 'pg_largeobject'::regclass OR schemaname !~ '^(pg_(catalog|toast|(toast_)?temp_\d+)|information_schema)$'
"""
# VACUUM and ANALYZE change rows of these in place, so that they keep their transaction. Each is stated with the column that has
# the schema of an object, or its table.
_CATALOGUES = {
    "pg_class": "relnamespace", "pg_attribute": "attrelid", "pg_attrdef": "adrelid", "pg_constraint": "connamespace",
    "pg_index": "indrelid", "pg_proc": "pronamespace", "pg_policy": "polrelid", "pg_rewrite": "ev_class",
    "pg_trigger": "tgrelid", "pg_type": "typnamespace",
}  # fmt: skip
# Who only reads may create temporary objects.
_DEFINITIONS = """
WITH temporary (id) AS (SELECT oid FROM pg_namespace WHERE nspname ~ '^pg_(toast_)?temp_'),
  own (id) AS (SELECT id FROM temporary UNION ALL SELECT oid FROM pg_class WHERE relnamespace IN (SELECT id FROM temporary))
SELECT sum(h)::text FROM ({}) each
""".format(
    " UNION ALL ".join(
        "SELECT hashtextextended(concat_ws(' ', tableoid, ctid, xmin), 0)::numeric AS h"
        f" FROM {name} WHERE {place} NOT IN (SELECT id FROM own)"
        for name, place in _CATALOGUES.items()
    )
)


def written(connection: Connection[TupleRow]) -> Written | None:
    """What was written to the connection's database so far; None if the server cannot tell: a restore does not fail for that."""
    if connection.info.server_version < _COUNTERS:
        return None
    with suppress(psycopg.Error):
        row = connection.execute(f"SELECT ({_ROWS}), ({_DEFINITIONS})").fetchone()
        return Written(rows=row[0], definitions=row[1]) if row else None
    return None


def since(address: Address, mark: Mark) -> str:
    """What was changed in a restored database since it was verified; empty if nothing was, or if that is not to be known."""
    before = mark.written
    if mark.state != "restored" or before is None:
        return ""
    try:
        with session(address, application="posthub-restore") as connection:
            found = written(connection)
    except OpsError as error:
        return f"whether it was changed is not known: {error.message}"
    if found is None or found.rows < before.rows:
        return "whether it was changed is not known: the server has lost its statistics"
    rows = counted(found.rows - before.rows, "row")
    changes = [
        *([f"{rows} written"] if found.rows > before.rows else []),
        *(["definitions changed"] if found.definitions != before.definitions else []),
    ]
    return f"changed since it was verified: {', '.join(changes)}" if changes else ""
