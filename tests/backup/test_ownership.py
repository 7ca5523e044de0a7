"""The identifiers of clusters, not names, distinguish two servers that use one folder by mistake."""

import json
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from backup.catalogue.manifest import Manifest
from backup.errors import PreflightError
from backup.ownership import clusters, lineage
from stack.servers import Postgres
from tests.backup.documents import NOW, SERVER, history, manifest, put
from tests.backup.restorekit import Command


@pytest.fixture
def staging(tmp_path_factory: pytest.TempPathFactory, database: str) -> Iterator[str]:
    """The address of a database of the same name on another server."""
    with Postgres(tmp_path_factory.mktemp("staging")) as server:
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {database}")
        with psycopg.connect(server.url_for(database), autocommit=True) as connection:
            connection.execute("CREATE TABLE rows_of_staging (i int)")
        yield server.url_for(database)


@pytest.fixture
def command(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    return Command(environ, monkeypatch, capsys)


def test_a_server_with_copied_settings_does_no_harm(
    command: Command, staging: str, database: str, tmp_path: Path
) -> None:
    mine = command.passed("run", "--verify")["id"]
    theirs = {"DATABASE_URL": staging, "BACKUP_KEEP_LAST": "1", "BACKUP_KEEP_FLOOR": "1"}
    done = command("run", **theirs)
    assert done.status == 2, done
    assert "belongs to another server" in done.err
    assert "python -m backup run --adopt" in done.err
    assert [path.name for path in (tmp_path / "store" / database).iterdir() if path.name != "attempts"] == [
        mine
    ]
    pruned = command.passed("prune", **theirs)[database]
    assert (pruned["deleted"], pruned["decisions"]) == ([], [])
    assert "the folder belongs to another server" in pruned["blocked"]
    # --adopt is accepted, and recorded in the manifest.
    adopted = command.passed("run", "--adopt", "--verify", **theirs)["id"]
    written = Manifest.decode((tmp_path / "store" / database / adopted / "manifest.json").read_bytes(), "")
    first = Manifest.decode((tmp_path / "store" / database / mine / "manifest.json").read_bytes(), "")
    assert written.adopted == (first.server.system_identifier,)
    assert command.passed("run", **theirs)
    # Now production asks before it restores the other server's rows.
    for asked in (("restore", adopted), ("restore", adopted, "--table", "rows_of_staging")):
        done = command(*asked)
        assert done.status == 2, done
        assert "data from another server" in done.err
    assert command.passed("restore", mine)["id"] == mine
    assert command.passed("restore", adopted, "--yes-i-mean", database)["id"] == adopted


def test_the_identifier_is_the_servers(
    command: Command, postgres: Postgres, database: str, tmp_path: Path
) -> None:
    made = command.passed("run")["id"]
    value = json.loads((tmp_path / "store" / database / made / "manifest.json").read_text())
    with psycopg.connect(postgres.url_for(database)) as connection:
        row = connection.execute(
            "SELECT system_identifier::text, (SELECT oid::int FROM pg_database WHERE datname = current_database())"
            " FROM pg_control_system()"
        ).fetchone()
    assert row == (value["server"]["system_identifier"], value["server"]["database_oid"])


def test_lineage() -> None:
    def of(identifier: str, *adopted: str) -> Manifest:
        return manifest(
            NOW, server=SERVER.model_copy(update={"system_identifier": identifier}), adopted=adopted
        )

    assert lineage(None, "1", "shop", adopt=False) == ()
    assert lineage(of("1"), "1", "shop", adopt=False) == ()
    assert lineage(of("1", "0"), "1", "shop", adopt=False) == ("0",)
    assert lineage(of("1", "0"), "2", "shop", adopt=True) == ("1", "0")
    # An unknown identifier does not block.
    assert lineage(of(""), "2", "shop", adopt=False) == ()
    assert lineage(of("1"), "", "shop", adopt=False) == ()
    with pytest.raises(PreflightError, match="belongs to another server"):
        lineage(of("1", "0"), "2", "shop", adopt=False)


def test_what_is_adopted_counts() -> None:
    from backup.store import MemoryStore

    store = MemoryStore()
    for hours, (identifier, adopted) in enumerate([("2", ("1",)), ("1", ()), ("3", ())]):
        moment = NOW.replace(hour=10 - hours)
        put(
            store,
            manifest(
                moment, server=SERVER.model_copy(update={"system_identifier": identifier}), adopted=adopted
            ),
        )
    assert clusters(history(store), "2") == {"1", "2"}
    assert clusters(history(store), "1") == {"1"}
