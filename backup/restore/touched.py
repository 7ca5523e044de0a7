"""Whether somebody has written to a restored database since it was verified.

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
_ROWS = """
SELECT coalesce(sum(n_tup_ins + n_tup_upd + n_tup_del), 0)::bigint FROM pg_stat_all_tables
WHERE relid = 'pg_largeobject'::regclass OR schemaname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
"""
# VACUUM and ANALYZE change rows of these in place, so that they keep their transaction.
_CATALOGUES = (
    "pg_class", "pg_attribute", "pg_attrdef", "pg_constraint", "pg_index", "pg_proc", "pg_policy", "pg_rewrite",
    "pg_trigger", "pg_type",
)  # fmt: skip
_DEFINITIONS = "SELECT sum(h)::text FROM ({}) each".format(
    " UNION ALL ".join(
        f"SELECT hashtextextended(concat_ws(' ', tableoid, ctid, xmin), 0)::numeric AS h FROM {name}"
        for name in _CATALOGUES
    )
)


def written(connection: Connection[TupleRow]) -> Written | None:
    """What was written to the connection's database so far; None if the server cannot tell, which is no reason to fail."""
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
