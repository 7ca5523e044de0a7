"""What this host lacks is reported as such: a separate state, not damage, and no pruning."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

from backup.catalogue import layout
from backup.catalogue.manifest import Manifest
from backup.catalogue.records import Difference
from backup.load.throwaway import server_options
from backup.programs import Programs
from backup.service import status_page
from backup.service.state import new_state
from backup.settings import BackupSettings
from backup.verify import place, provable
from backup.wiring import wire
from sidecar import UsageError
from stack.servers import Postgres
from tests.backup.conftest import NewDatabase, samples
from tests.backup.restorekit import Command


@pytest.fixture
def command(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    return Command(environ, monkeypatch, capsys)


def changed(command: Command, made: dict[str, str], **changes: Any) -> None:
    """Change a manifest."""
    folder = Path(command.environ["BACKUP_STORE_URL"].removeprefix("file://"))
    path = folder / layout.manifest(made["database"], made["id"])
    manifest = Manifest.decode(path.read_bytes(), str(path))
    server = manifest.server.model_copy(update=changes.pop("server", {}))
    path.write_bytes(manifest.model_copy(update={"server": server, **changes}).encode())


def test_a_newer_client_is_not_damage(command: Command) -> None:
    made = command.passed("run")
    changed(command, made, client="99.1")
    done = command("verify", "--json")
    assert done.status == 1, done
    assert done.json["differences"] == []
    assert "the archive was written by pg_dump 99.1" in done.json["unprovable"][0]
    assert "could not be verified here" in command("verify").out
    listed = command.passed("list")[0]
    assert (listed["state"], listed["verified"]) == ("unprovable", False)
    state = new_state(wire(BackupSettings.load(command.environ)))
    state.refresh()
    found = {name.partition("{")[0]: value for name, value in samples(state).items()}
    assert found["backup_verification_unprovable"] == 1
    assert "backup_last_verification_success" not in found
    assert found["backup_prune_blocked"] == 1
    assert "could not be verified here: the archive was written by pg_dump 99.1" in status_page.render(state)
    # Once the host is up to date, the backup is verified as usual.
    changed(command, made, client="18.0")
    assert [each["ok"] for each in command.passed("verify", "--all-unverified")] == [True]
    assert command.passed("list")[0]["state"] == "verified"


def test_one_that_was_proven_stays_so(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """A later inconclusive verification does not revoke an earlier proof."""
    made = command.passed("run")
    command.passed("verify", made["id"])
    monkeypatch.setattr(provable, "beforehand", lambda *_, **__: ["an extension is missing here"])
    done = command("verify", made["id"], "--json")
    assert done.json["unprovable"] == ["an extension is missing here"]
    assert command.passed("list")[0]["state"] == "verified"


def test_what_only_a_restore_can_tell() -> None:
    def error(text: str) -> list[Difference]:
        return [
            Difference(
                kind="restore", object="archive", expected="no error", found=f"pg_restore: error: {text}"
            )
        ]

    rows = Difference(kind="rows", object="public.t", expected="2", found="0")
    for text in (
        'could not execute query: ERROR:  extension "pg_cron" is not available',
        'could not execute query: ERROR:  pgaudit must be loaded via "shared_preload_libraries"',
        "could not execute query: ERROR:  can only create extension in database postgres",
        'could not execute query: ERROR:  could not open synonym file "/usr/share/tsearch_data/bak.syn": No such file',
        'could not execute query: ERROR:  could not create locale "cs_CZ.utf8": No such file or directory',
        "could not execute query: ERROR:  ICU is not supported in this build",
        'could not execute query: ERROR:  unrecognized parameter "pg_attver"',
        'invalid value for parameter "lc_monetary": "cs_CZ.utf8"',
        'invalid value for parameter "TimeZone": "Europe/Atlantis"',
        "unsupported version (1.16) in file header",
    ):
        assert provable.afterwards([*error(text), rows], []), text
    for text in (
        'relation "t" does not exist',
        "duplicate key value violates unique constraint",
        'role "x" does not exist',
    ):
        assert provable.afterwards([*error(f"could not execute query: ERROR:  {text}"), rows], []) == [], text
    # A difference between the host and the original explains errors, and nothing else.
    assert provable.afterwards([*error("ERROR:  empty range bound"), rows], ["C is used instead"]) == [
        "C is used instead"
    ]
    assert provable.afterwards([rows], ["C is used instead"]) == []
    damaged = Difference(kind="object", object="database.dump.zst", expected="SHA-256 a", found="SHA-256 b")
    assert provable.afterwards([*error('extension "x" is not available'), damaged], []) == []


def test_a_setting_whose_value_is_unknown_here(
    command: Command, postgres: Postgres, new_database: NewDatabase
) -> None:
    """As of a server with more locales and newer time zones: the doctor says so, and a verification gives no verdict."""
    name = new_database("CREATE TABLE t AS SELECT 1 AS a", "values")
    there = {"DATABASE_URL": postgres.url_for(name)}
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {name}; ALTER ROLE {name} SET TimeZone TO 'UTC'".encode())
        connection.execute(f"ALTER DATABASE {name} SET lc_monetary TO 'C'".encode())
        connection.execute(
            "UPDATE pg_db_role_setting SET setconfig = CASE setrole WHEN 0 THEN '{lc_monetary=xx_XX.utf8}'::text[]"
            " ELSE '{TimeZone=Europe/Atlantis}' END WHERE setrole = %s::regrole"
            " OR setdatabase = (SELECT oid FROM pg_database WHERE datname = %s)",
            [name, name],
        )
        try:
            checked = {each["name"]: each for each in command("doctor", "--json", **there).json}
            found = [each["detail"] for each in checked.values() if each["ok"] is False]
            assert any(
                "the locale xx_XX.utf8 of the setting lc_monetary is missing here" in each for each in found
            )
            assert any("the time zone Europe/Atlantis of a setting is unknown here" in each for each in found)
            command.passed("run", **there)
            report = command("verify", "--json", **there).json
        finally:
            connection.execute(f"DROP ROLE {name}".encode())
    assert report["unprovable"] == [
        "the value of a setting, such as a locale or a time zone, is unknown here"
    ]
    assert "xx_XX.utf8" in str(report["differences"])


def test_room_is_looked_for_before_anything_is_downloaded(tmp_path: Path) -> None:
    assert list(provable.no_room(1 << 60, tmp_path))
    assert list(provable.no_room(1, tmp_path)) == []


def test_options_of_the_throwaway_server(command: Command) -> None:
    assert server_options("shared_preload_libraries=a,b; cron.database_name = restored ;") == {
        "shared_preload_libraries": "a,b",
        "cron.database_name": "restored",
    }
    for wrong in ("nothing", "=x", "a b=c", "listen_addresses=*"):
        with pytest.raises(UsageError, match="BACKUP_VERIFY_OPTIONS"):
            server_options(wrong)
    command.passed("run")
    assert command.passed(
        "verify", BACKUP_VERIFY_OPTIONS="shared_preload_libraries=auto_explain; work_mem=8MB"
    )["ok"]


def test_a_folder_whose_path_is_too_long_for_a_socket(command: Command, tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 100)
    folder.mkdir()
    checks = {each["name"]: each for each in command("doctor", "--json", BACKUP_WORK_DIR=str(folder)).json}
    assert checks["work folder"]["ok"] is False
    done = command("run", "--verify", BACKUP_WORK_DIR=str(folder))
    done.fails(1, "could not be verified here: the path", "too long for the socket")
    report = command("verify", "--json", BACKUP_WORK_DIR=str(folder)).json
    assert report["differences"] == []
    assert "too long for the socket" in report["unprovable"][0]
    assert command("verify", "--json").json["ok"] is True


LACKING = {
    "a dictionary's file": (
        "CREATE TEXT SEARCH DICTIONARY d (TEMPLATE = simple, STOPWORDS = english)",
        "the file english.stop of the dictionary public.d is missing here",
    ),
    "a locale of a collation": (
        "CREATE COLLATION odd (LC_COLLATE = 'C.utf8', LC_CTYPE = 'C')",
        "the locale C.utf8 of the collation public.odd is missing here",
    ),
    "a library": ("SELECT 1", "the extension plpgsql must be loaded when the throwaway server starts"),
}


@pytest.mark.parametrize("what", LACKING)
def test_doctor_names_what_a_verification_would_lack(
    what: str,
    command: Command,
    postgres: Postgres,
    new_database: NewDatabase,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    script, wanted = LACKING[what]
    name = new_database(script, "lacks")
    monkeypatch.setattr(place, "_PRELOADED", {"plpgsql": ""})
    monkeypatch.setattr(Programs, "extension_folder", lambda _: tmp_path / "extension")
    monkeypatch.setattr(provable, "_locale_exists", lambda locale: locale != "C.utf8")
    done = command("doctor", "--json", DATABASE_URL=postgres.url_for(name))
    found = next(each for each in done.json if each["name"] == f"postgres {name}: verification")
    assert found["ok"] is False
    assert wanted in found["detail"]


def test_files_of_dictionaries() -> None:
    options = "dictfile = 'a', afffile = 'b', stopwords = 'it''s'"
    assert list(place._files("ispell", options)) == ["a.dict", "b.affix", "it's.stop"]
    assert list(place._files("thesaurus", "dictfile = 'a', dictionary = 'simple'")) == ["a.ths"]
    assert list(place._files("unaccent", "rules = 'my'")) == ["my.rules"]
    assert list(place._files("snowball", "language = 'english'")) == []


def test_the_advice_about_libraries_can_be_followed_at_once() -> None:
    """The setting has one list: a second advice must not undo the first one."""
    connection: Any = SimpleNamespace(execute=lambda *_: [("pg_cron",), ("pgaudit",)])
    advice = "set BACKUP_VERIFY_OPTIONS=shared_preload_libraries=%s; cron.database_name=restored"
    both = [each[1] for each in place._preloaded(connection, {})]
    assert both == [advice % "pg_cron,pgaudit"] * 2
    loaded = {"shared_preload_libraries": "mine, pgaudit"}
    assert [each[1] for each in place._preloaded(connection, loaded)] == [advice % "mine,pgaudit,pg_cron"]
    options = server_options(both[0].partition("BACKUP_VERIFY_OPTIONS=")[2])
    assert list(place._preloaded(connection, options)) == []


def test_a_locale_of_another_version(command: Command, postgres: Postgres, new_database: NewDatabase) -> None:
    """It may sort texts differently, so a row that a bound or a check refuses here may be right on the original."""
    name = new_database(
        "CREATE TABLE b (a int); INSERT INTO b VALUES (1); CREATE FUNCTION there(int) RETURNS bool LANGUAGE sql AS"
        " 'SELECT EXISTS (SELECT FROM public.b WHERE b.a = $1)'; CREATE TABLE a (a int CHECK (there(a))); INSERT INTO a VALUES (1)",
        "sorting",
    )
    made = command.passed("run", DATABASE_URL=postgres.url_for(name))
    alone = {"BACKUP_RESTORE_JOBS": "1"}  # in the order of names
    refused = command("verify", made["id"], "--json", **alone).json
    assert refused["differences"], refused
    assert [each.split(":")[0] for each in refused["unprovable"]] == [
        "pg_restore cannot restore the rows of public.a, which violate its check constraint a_a_check"
    ]
    changed(command, made, server={"collation_version": "0.9"})
    report = command("verify", made["id"], "--json", **alone).json
    assert any("has version 1 here, and 0.9 on the original" in each for each in report["unprovable"]), report
