"""Compares the collations of a recovered server with those of the programs here: another order makes its text indexes wrong."""

from backup.physical.recover import Paused
from backup.postgres.session import session

_OTHER = """
SELECT datname, datcollversion, coalesce(pg_database_collation_actual_version(oid), 'none') FROM pg_database
WHERE datcollversion IS DISTINCT FROM pg_database_collation_actual_version(oid) AND datcollversion IS NOT NULL
ORDER BY 1
"""


def differing(paused: Paused) -> list[str]:
    """A note for each database whose collation has a different version here than on the original server."""
    with session(paused.address) as connection:
        found = connection.execute(_OTHER).fetchall()
    return [
        f"the collation of {name} has version {original}, and {here} here: indexes of text may be out of order for these"
        " programs; use those of the original's image, or REINDEX"
        for name, original, here in found
    ]
