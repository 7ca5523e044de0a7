"""The real server prints each definition, reads it, and prints it again: for each type and each kind of object.

PostgreSQL prints an implicit cast of a whole array in two ways. So the catalogue of the server under test gives
every pair of types that it casts implicitly, and each pair is put into every kind of object with an expression.
"""

import psycopg
import pytest
from psycopg import errors

from backup.replication.merged import read
from backup.run import run
from backup.verify import verify
from stack.servers import Postgres
from tests.backup.conftest import NewDatabase, Wire

# Source and target of each implicit cast, and the name of a function that takes an array of the target.
PAIRS = """
CREATE TABLE pairs AS
  SELECT row_number() OVER (ORDER BY source, target) AS n, format_type(source, NULL) AS source, format_type(target, NULL) AS target
  FROM (SELECT castsource AS source, casttarget AS target FROM pg_cast WHERE castcontext = 'i'
        UNION SELECT 'varchar'::regtype, 'text'::regtype UNION SELECT 'own'::regtype, 'own_text'::regtype) c
    JOIN pg_type s ON s.oid = source JOIN pg_type t ON t.oid = target
  WHERE s.typarray <> 0 AND t.typarray <> 0 AND source <> target
"""
# The objects that each pair is put into; {0}: its number, {1}: the source, {2}: the target, {e}: an expression.
KINDS = {
    "a check": "CREATE TABLE t{0} (a {1}, b {1}, CONSTRAINT c{0} CHECK ({e}))",
    "a default": "CREATE TABLE d{0} (a bool DEFAULT f{0}(ARRAY[NULL::{1}, NULL]))",
    "a generated column": "CREATE TABLE g{0} (a {1}, b {1}, c bool GENERATED ALWAYS AS ({e}) STORED)",
    "an index and its predicate": "CREATE INDEX i{0} ON t{0} (({e})) WHERE {e}",
    "a view": "CREATE VIEW v{0} AS SELECT CASE WHEN {e} THEN ARRAY[ARRAY[a, b], ARRAY[b, a]]::{2}[] END AS x FROM t{0} WHERE {e}",
    "a materialised view": "CREATE MATERIALIZED VIEW m{0} AS SELECT {e} AS x FROM t{0}",
    "a policy": "CREATE POLICY p{0} ON t{0} USING ({e}) WITH CHECK ({e})",
    "a rule": "CREATE RULE r{0} AS ON DELETE TO t{0} WHERE f{0}(ARRAY[OLD.a, OLD.b]) DO INSTEAD NOTHING",
    "a trigger": "CREATE TRIGGER w{0} BEFORE INSERT ON t{0} FOR EACH ROW WHEN (f{0}(ARRAY[NEW.a, NEW.b])) EXECUTE FUNCTION tr()",
    "a function of SQL": "CREATE FUNCTION s{0}(a {1}, b {1}) RETURNS bool LANGUAGE sql IMMUTABLE RETURN {e}",
    "statistics": "CREATE STATISTICS x{0} ON ({e}), a FROM t{0}",
    "a domain": "CREATE DOMAIN o{0} AS {1} CHECK (f{0}(ARRAY[VALUE, NULL::{1}]))",
    "a partitioned key": "CREATE TABLE k{0} (a {1}, b {1}) PARTITION BY LIST (({e}))",
    "a publication": "CREATE PUBLICATION u{0} FOR TABLE t{0} WHERE (b IS NULL OR (a IN (NULL, NULL)))",
}
# Expressions of two kinds: a call, and a comparison, in which PostgreSQL chooses the cast.
CALL = "f{0}(ARRAY[a, b])"
BEFORE = """
CREATE DOMAIN own AS varchar(9); CREATE DOMAIN own_text AS text;
CREATE FUNCTION tr() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
"""
MIN_PAIRS = 40
MIN_OBJECTS = 500


def test_every_kind_of_object_with_every_implicit_cast(
    wired: Wire, new_database: NewDatabase, postgres: Postgres
) -> None:
    name = new_database(BEFORE, "reprinted")
    made = 0
    with psycopg.connect(postgres.url_for(name), autocommit=True) as connection:
        connection.execute(PAIRS)
        pairs = connection.execute("SELECT n, source, target FROM pairs").fetchall()
        for number, source, target in pairs:
            connection.execute(
                f"CREATE FUNCTION f{number}({target}[]) RETURNS bool LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN true; END'".encode()
            )
            expression = CALL.format(number)
            for kind in KINDS.values():
                try:
                    connection.execute(kind.format(number, source, target, e=expression).encode())
                    made += 1
                except (
                    errors.UndefinedFunction,
                    errors.UndefinedObject,
                    errors.FeatureNotSupported,
                    errors.InvalidObjectDefinition,
                ):
                    continue  # this kind needs an operator, a class or an immutable cast
    assert len(pairs) >= MIN_PAIRS
    assert made >= MIN_OBJECTS
    wiring = wired(DATABASE_URL=postgres.url_for(name))
    run(wiring, wiring.targets[0])
    entry = read(wiring).history(name).latest
    assert entry is not None
    report = verify(wiring, entry)
    assert [str(each) for each in report.differences] == []


@pytest.mark.parametrize("operator", ["=", "<>", "IS DISTINCT FROM"])
def test_lists_of_every_type(
    operator: str, wired: Wire, new_database: NewDatabase, postgres: Postgres
) -> None:
    """``a IN (…)`` on a column of every type, with elements of that type and of every type with an implicit cast to it."""
    name = new_database("SELECT 1", "lists")
    made = 0
    with psycopg.connect(postgres.url_for(name), autocommit=True) as connection:
        types = connection.execute(
            "SELECT format_type(oid, NULL) FROM pg_type WHERE typtype IN ('b', 'r', 'm', 'd', 'e') AND typarray <> 0"
            " AND typnamespace = 'pg_catalog'::regnamespace AND typname !~ '^pg_(ddl|node|ndist|dep|mcv|brin)'"
        ).fetchall()
        for number, (kind,) in enumerate(types):
            for variant, elements in enumerate(("{0}, {0}", "{0}, NULL", "{0}, {0}, a")):
                some = elements.format(f"NULL::{kind}")
                quantified = (
                    f"a {operator} ANY (ARRAY[{some}])"
                    if operator != "IS DISTINCT FROM"
                    else f"ARRAY[a] {operator} ARRAY[{some}]"
                )
                statement = f"CREATE TABLE t{number}_{variant} (a {kind} CHECK ({quantified}), b {kind}[] DEFAULT ARRAY[{some.replace(', a', '')}])"
                try:
                    connection.execute(statement.encode())
                    made += 1
                except (errors.UndefinedFunction, errors.AmbiguousFunction):
                    continue
    assert made >= MIN_PAIRS
    wiring = wired(DATABASE_URL=postgres.url_for(name))
    run(wiring, wiring.targets[0])
    entry = read(wiring).history(name).latest
    assert entry is not None
    assert [str(each) for each in verify(wiring, entry).differences] == []
