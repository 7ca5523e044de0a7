"""The inventory of a snapshot, read independently of pg_dump: tables and rows, sequences, extensions, roles."""

from datetime import datetime

from psycopg import Connection, sql
from psycopg.rows import TupleRow

from backup.catalogue.manifest import Extension, Sequence, Server, Table

# The tables whose rows pg_dump writes: ordinary tables and partitions. Not those of an extension (pg_dump writes some rows
# of its configuration tables), and not the temporary ones of other sessions.
_DUMPED = """
SELECT n.nspname, c.relname, c.oid
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND c.relpersistence <> 't'
  AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
                  AND d.deptype = 'e')
ORDER BY 1, 2
"""
_UNREADABLE = """
SELECT n.nspname || '.' || c.relname
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = ANY(%s) AND NOT (has_table_privilege(c.oid, 'SELECT') AND has_schema_privilege(n.oid, 'USAGE'))
ORDER BY 1
"""
_ROLES = """
SELECT DISTINCT r.rolname FROM pg_shdepend d JOIN pg_roles r ON d.refclassid = 'pg_authid'::regclass
  AND d.refobjid = r.oid
WHERE d.dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
   OR d.classid = 'pg_database'::regclass
      AND d.objid = (SELECT oid FROM pg_database WHERE datname = current_database())
ORDER BY 1
"""

# Every role may ask, unless somebody has taken that away.
_IDENTIFIER = """
CASE WHEN has_function_privilege('pg_control_system()', 'EXECUTE')
THEN (SELECT system_identifier::text FROM pg_control_system()) ELSE '' END
"""

Name = tuple[str, str]


def server(connection: Connection[TupleRow]) -> Server:
    """The server's version and the database's encoding and locale."""
    number = connection.info.server_version
    # The provider has columns of its own since 15, and one name for its locale since 17.
    provider = "datlocprovider::text" if number >= 150000 else "'c'"
    locale = "datlocale" if number >= 170000 else "daticulocale" if number >= 150000 else "NULL"
    row = connection.execute(
        f"SELECT current_setting('server_version'), pg_encoding_to_char(encoding), datcollate, datctype,"
        f" {provider}, {locale}, (SELECT rolname FROM pg_roles WHERE oid = 10), oid::bigint, {_IDENTIFIER}"
        " FROM pg_database WHERE datname = current_database()"
    ).fetchone()
    assert row is not None
    return Server(
        version=row[0].split()[0],
        version_number=number,
        encoding=row[1],
        collate=row[2],
        ctype=row[3],
        locale_provider=row[4],
        locale=row[5],
        superuser=row[6],
        database_oid=row[7],
        system_identifier=row[8],
    )


def system_identifier(connection: Connection[TupleRow]) -> str:
    """What tells this cluster from all others; empty if the role may not ask."""
    row = connection.execute(f"SELECT {_IDENTIFIER}").fetchone()
    return str(row[0]) if row else ""


def clock(connection: Connection[TupleRow]) -> datetime:
    """The server's clock."""
    row = connection.execute("SELECT clock_timestamp()").fetchone()
    assert row is not None
    moment: datetime = row[0]
    return moment


def tables(connection: Connection[TupleRow]) -> dict[Name, int]:
    """Names of the tables whose rows are dumped, with their OIDs."""
    return {(row[0], row[1]): row[2] for row in connection.execute(_DUMPED)}


def unreadable(connection: Connection[TupleRow]) -> list[str]:
    """Tables whose rows our role may not read."""
    return [row[0] for row in connection.execute(_UNREADABLE, [list(tables(connection).values())])]


def lock(connection: Connection[TupleRow], names: list[Name]) -> None:
    """Take the weakest lock on tables. It blocks TRUNCATE and ALTER, which a snapshot does not cover."""
    for start in range(0, len(names), 200):
        batch = sql.SQL(", ").join(sql.Identifier(*name) for name in names[start : start + 200])
        connection.execute(sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(batch))


def count(connection: Connection[TupleRow], name: Name) -> Table:
    """A table with its exact number of rows, without the rows of its child tables."""
    query = sql.SQL("SELECT count(*) FROM ONLY {}").format(sql.Identifier(*name))
    row = connection.execute(query).fetchone()
    assert row is not None
    return Table(schema=name[0], name=name[1], rows=row[0])


def sequences(connection: Connection[TupleRow]) -> tuple[Sequence, ...]:
    """Every sequence and its last value."""
    rows = connection.execute(
        "SELECT schemaname || '.' || sequencename, last_value FROM pg_sequences ORDER BY 1"
    ).fetchall()
    return tuple(Sequence(name=row[0], last_value=row[1]) for row in rows)


def only_advancing(connection: Connection[TupleRow]) -> set[str]:
    """Sequences that only increase."""
    rows = connection.execute(
        "SELECT schemaname || '.' || sequencename FROM pg_sequences WHERE increment_by > 0 AND NOT cycle"
    )
    return {row[0] for row in rows}


def extensions(connection: Connection[TupleRow]) -> tuple[Extension, ...]:
    rows = connection.execute("SELECT extname, extversion FROM pg_extension ORDER BY 1").fetchall()
    return tuple(Extension(name=row[0], version=row[1]) for row in rows)


def roles(connection: Connection[TupleRow]) -> tuple[str, ...]:
    """Roles that own something in this database or have privileges on it."""
    return tuple(row[0] for row in connection.execute(_ROLES))


def size(connection: Connection[TupleRow]) -> int:
    """Bytes on the server's disk."""
    row = connection.execute("SELECT pg_database_size(current_database())").fetchone()
    assert row is not None
    return int(row[0])
