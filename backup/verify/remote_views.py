"""Materialized views that read another server, which a throwaway server never reaches."""

from collections.abc import Sequence

from backup.catalogue.records import Difference
from backup.postgres.dsn import Address
from backup.postgres.session import session

# A difference of this kind: the restore has not filled a view.
_NOT_FILLED = "materialized view data"
# What reads a foreign table or calls dblink, directly or through parents and views.
_REMOTE = """
WITH RECURSIVE dependents AS (
  SELECT d.refclassid AS class, d.refobjid AS read, w.ev_class AS reader
  FROM pg_depend d JOIN pg_rewrite w ON d.classid = 'pg_rewrite'::regclass AND w.oid = d.objid
  UNION ALL SELECT 'pg_class'::regclass, inhrelid, inhparent FROM pg_inherits
), remote AS (
  SELECT oid FROM pg_class WHERE relkind = 'f'
  UNION SELECT reader FROM dependents JOIN pg_depend e ON e.classid = class AND e.objid = read AND e.deptype = 'e'
    JOIN pg_extension x ON e.refclassid = 'pg_extension'::regclass AND x.oid = e.refobjid
    WHERE class = 'pg_proc'::regclass AND extname = 'dblink'
  UNION SELECT reader FROM remote JOIN dependents ON class = 'pg_class'::regclass AND read = remote.oid
)
SELECT n.nspname || '.' || c.relname, format('%I.%I', n.nspname, c.relname)
FROM remote JOIN pg_class c USING (oid) JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'm' AND NOT c.relispopulated ORDER BY 1
"""


def without_remote(
    differences: Sequence[Difference], database: Address
) -> tuple[list[Difference], list[str]]:
    """The differences without those of views that could not be filled because they read another server.

    Returns:
        The other differences, and a note for each such view.
    """
    missing = {each.object for each in differences if each.kind == _NOT_FILLED and each.found == "nothing"}
    if not missing:
        return list(differences), []
    with session(database) as connection:
        remote = [row for row in connection.execute(_REMOTE) if row[0] in missing]
    labels = {label for label, _ in remote}
    refused = tuple(f"(REFRESH MATERIALIZED VIEW {name};)" for _, name in remote)
    kept = [
        each
        for each in differences
        if not (each.kind == _NOT_FILLED and each.object in labels)
        and not (each.kind == "restore" and refused and each.found.endswith(refused))
    ]
    return kept, [
        f"materialized view {label}: it reads another server, and is empty: REFRESH MATERIALIZED VIEW {name};"
        for label, name in remote
    ]
