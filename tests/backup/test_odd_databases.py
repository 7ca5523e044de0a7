"""Oddities of a database as a whole: what every new one has, and this one lacks or has in a different form."""

from backup.replication.merged import read
from backup.run import run
from backup.verify import verify
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


def test_what_was_dropped_and_comes_back_is_a_note(
    wired: Wire, new_database: NewDatabase, postgres: Postgres
) -> None:
    name = new_database(SQL, "whole")
    wiring = wired(DATABASE_URL=postgres.url_for(name))
    run(wiring, wiring.targets[0])
    entry = read(wiring).history(name).latest
    assert entry is not None
    report = verify(wiring, entry)
    assert [str(each) for each in report.differences] == []
    notes = " ".join(report.notes)
    assert "extension plpgsql: it was dropped" in notes
    assert "EXTENSION citext: it was removed, and comes back with the extension" in notes
