"""Oddities of a database as a whole: what every new one has, and this one lacks or has in a different form."""

import psycopg
import pytest

from backup.postgres.dsn import Address
from backup.replication.merged import read
from backup.run import run
from backup.verify import verify
from backup.verify.compare import _harmless
from backup.verify.digests import Digest, Key
from stack.servers import Postgres
from tests.backup.conftest import NewDatabase, Wire

SQL = """
DROP EXTENSION plpgsql;
DROP SCHEMA public;
CREATE SCHEMA public;
GRANT ALL ON SCHEMA public TO public;
CREATE EXTENSION citext;
COMMENT ON EXTENSION citext IS NULL;
CREATE TABLE t AS SELECT 1 AS a;
"""
# Of a session that exists during the backup; the operator belongs to an extension.
TEMPORARY = """
CREATE TEMPORARY TABLE mine (a citext DEFAULT 'A' CHECK (a <> 'x'));
CREATE TEMPORARY VIEW own AS SELECT CASE a WHEN 'a' THEN 1 END FROM mine;
"""


def test_what_was_dropped_and_comes_back_is_a_note(
    wired: Wire, new_database: NewDatabase, postgres: Postgres
) -> None:
    name = new_database(SQL, "whole")
    wiring = wired(DATABASE_URL=postgres.url_for(name))
    with psycopg.connect(postgres.url_for(name), autocommit=True) as session:
        session.execute(TEMPORARY)
        run(wiring, wiring.targets[0])
    entry = read(wiring).history(name).latest
    assert entry is not None
    report = verify(wiring, entry)
    assert [str(each) for each in report.differences] == []
    notes = " ".join(report.notes)
    assert "extension plpgsql: it was dropped" in notes
    assert "EXTENSION citext: it was removed, and comes back with the extension" in notes


COMMENT: Key = ("COMMENT", "-", "EXTENSION plpgsql")


@pytest.mark.parametrize("key", [("EXTENSION", "-", "plpgsql"), COMMENT])
def test_what_was_created_again_is_a_note(key: Key) -> None:
    """It was dropped and created again. A dump of the restored database leaves out what every new one has."""
    again = {("EXTENSION", "-", "plpgsql"): Digest("a"), key: Digest("a")}
    nowhere = Address({})
    assert "created again" in _harmless(key, again, {}, {}, nowhere)
    assert _harmless(("EXTENSION", "-", "citext"), again, {}, {}, nowhere) == ""
    assert _harmless(COMMENT, {COMMENT: Digest("a")}, {}, {}, nowhere) == ""
