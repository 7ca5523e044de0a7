"""All databases of a server, including those created later."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self, get_args

import psycopg
import pytest

from backup import discovery
from backup.discovery import Discovery, target_name
from backup.postgres.databases import Mark
from backup.postgres.dsn import parse
from backup.service.jobs import Jobs
from backup.service.state import new_state
from backup.settings import BackupSettings
from backup.wiring import wire
from stack.servers import Postgres
from tests.backup.documents import NOW, SERVER, manifest
from tests.backup.restorekit import Command

# libpq takes a name such as the last one for connection parameters.
NAMES = ("shop", "crm", "Účto = 2026;")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Postgres]:
    with Postgres(tmp_path / "all") as server:
        for name in (*NAMES, "skipped_1", "skipped_2"):
            create(server, name)
        yield server


@pytest.fixture
def command(
    server: Postgres,
    environ: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Command:
    del environ["DATABASE_URL"]
    more = {
        "BACKUP_DISCOVER_URL": server.url_for("postgres"),
        "BACKUP_DISCOVER_SKIP": "postgres skipped_* posthub",
    }
    return Command({**environ, **more}, monkeypatch, capsys)


def create(server: Postgres, name: str) -> None:
    with psycopg.connect(server.url_for("postgres"), autocommit=True) as connection:
        connection.execute(psycopg.sql.SQL("CREATE DATABASE {}").format(psycopg.sql.Identifier(name)))


def backed_up(command: Command) -> set[str]:
    listed: list[dict[str, Any]] = command("list", "--json").json
    return {each["database"] for each in listed}


def test_new_ones_are_found_and_lost_ones_are_reported(command: Command, server: Postgres) -> None:
    odd = target_name(NAMES[2])
    assert odd.endswith("to_2026-" + odd[-6:])
    with psycopg.connect(server.url_for("postgres"), autocommit=True) as connection:
        connection.execute("ALTER DATABASE posthub ALLOW_CONNECTIONS false")
    command.passed("run")
    assert backed_up(command) == {"shop", "crm", odd}
    report = command("verify", "--all-unverified", "--json").json
    assert [each["ok"] for each in report] == [True] * 3
    into = command.passed("restore", "latest", "-d", odd)["into"]
    create(server, "new")
    command.passed("run")
    assert backed_up(command) == {"shop", "crm", odd, "new"}
    with psycopg.connect(server.url_for("postgres"), autocommit=True) as connection:
        connection.execute("DROP DATABASE crm")
        assert connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [into]).fetchone()
    done = command("run")
    done.fails(2, 'database "crm" does not exist')
    skip = f"{command.environ['BACKUP_DISCOVER_SKIP']} crm"
    command.passed("run", BACKUP_DISCOVER_SKIP=skip)
    checks = {each["name"]: each for each in command("doctor", "--json", BACKUP_DISCOVER_SKIP=skip).json}
    aside = f"; not backed up, because a restore created them or set them aside: {into}"
    assert checks["databases"]["detail"] == ", ".join(sorted(("shop", odd, "new"))) + aside
    # What is neither backed up nor skipped on purpose is named.
    done = command("doctor", "--json", BACKUP_DISCOVER_SKIP=skip.replace("posthub", ""))
    (found,) = [each for each in done.json if each["name"] == "databases"]
    assert found["detail"].endswith(
        "not backed up, because they are templates, allow no connections, or are partly dropped: posthub"
    )


NAMES_OF_PEOPLE = ("a[1]", "posthub_ops_metrics", "two\nlines", "q\"u'o te", "50%s %(x)s", "ž" * 31, "-d")


def test_all_names_of_databases_are_found_but_half_dropped_ones(command: Command, server: Postgres) -> None:
    for name in NAMES_OF_PEOPLE:
        create(server, name)
    with psycopg.connect(server.url_for("postgres"), autocommit=True) as connection:
        connection.execute("UPDATE pg_database SET datconnlimit = -2 WHERE datname = 'skipped_1'")
    command.environ["BACKUP_DISCOVER_SKIP"] = "postgres posthub shop crm skipped_2 a[1] *2026*"
    command.passed("run")
    assert backed_up(command) == {target_name(name) for name in NAMES_OF_PEOPLE[1:]}
    (found,) = [each for each in command("doctor", "--json").json if each["name"] == "databases"]
    assert found["detail"].endswith("or are partly dropped: skipped_1")
    # One that was backed up before is still tried, so that its failure is reported.
    with psycopg.connect(server.url_for("postgres"), autocommit=True) as connection:
        connection.execute(
            "UPDATE pg_database SET datconnlimit = -2 WHERE datname = %s", [NAMES_OF_PEOPLE[2]]
        )
    command("run").fails(2, "1 of 6 backups failed")


def test_the_service_looks_before_each_run(command: Command, server: Postgres) -> None:
    more = {"BACKUP_VERIFY_AFTER_BACKUP": "false"}
    state = new_state(wire(BackupSettings.load({**command.environ, **more})))
    create(server, "new")
    Jobs(state).back_up()
    assert set(state.names) == {"shop", "crm", target_name(NAMES[2]), "new"}
    assert backed_up(command) == set(state.names)


def test_a_server_that_is_down(command: Command, server: Postgres) -> None:
    server.kill()
    done = command("run")
    done.fails(2, "Connection refused")
    checks = {each["name"]: each for each in command("doctor", "--json").json}
    assert checks["databases"]["ok"] is False


# A database for each role that a restore gives to one.
RESTORED = {state: f"shop_{state}" for state in get_args(Mark.model_fields["state"].annotation)}


class Server:
    """Stands in for the databases of a server: what it answers is decided on, not how it is asked."""

    def __init__(self, *names: str, closed: tuple[str, ...] = (), identifier: str = "7") -> None:
        self._names, self._closed, self._identifier = names, closed, identifier

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def names(self) -> list[str]:
        return [*self._names]

    def closed(self) -> list[str]:
        return [*self._closed]

    def identifier(self) -> str:
        return self._identifier

    def marks(self) -> dict[str, Mark]:
        return {name: Mark(state=state, database="shop", moment=NOW) for state, name in RESTORED.items()}


def found(
    monkeypatch: pytest.MonkeyPatch,
    server: Server,
    skip: tuple[str, ...] = (),
    stored: tuple[str, ...] = (),
    backups_of: str = "7",
) -> Discovery:
    monkeypatch.setattr(discovery, "databases", lambda _: server)
    made = Discovery(parse("postgresql://u@127.0.0.1/postgres"), skip, ())
    newest = manifest(NOW, server=SERVER.model_copy(update={"system_identifier": backups_of}))
    made.refresh(stored, lambda _: newest)
    return made


def test_what_restores_have_put_aside_is_not_backed_up(monkeypatch: pytest.MonkeyPatch) -> None:
    made = found(monkeypatch, Server(*RESTORED.values()))
    assert [each.name for each in made.targets] == ["shop_promoted", "shop_returned"]
    assert set(made.aside) == {"shop_restored", "shop_before", "shop_undone"}


def test_only_a_star_and_a_question_mark_stand_for_other_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    made = found(monkeypatch, Server("shop1", "shop2", "crm1", "crm22"), skip=("shop[1]", "crm?"))
    assert [each.name for each in made.targets] == ["crm22", "shop1", "shop2"]
    made = found(monkeypatch, Server("shop1", "shop[1]"), skip=("shop[1]",))
    assert [each.address.database for each in made.targets] == ["shop1"]


@pytest.mark.parametrize(
    ("backups_of", "identifier", "is_kept"),
    [("7", "7", True), ("8", "7", False), ("", "", False)],
    ids=["this server's", "another server's", "not known"],
)
def test_a_database_that_is_gone_stays_if_its_backups_are_of_this_server(
    monkeypatch: pytest.MonkeyPatch, backups_of: str, identifier: str, *, is_kept: bool
) -> None:
    server = Server("crm", identifier=identifier)
    made = found(monkeypatch, server, stored=("crm", "shop"), backups_of=backups_of)
    assert [each.name for each in made.targets] == (["crm", "shop"] if is_kept else ["crm"])


def test_a_closed_database_with_backups_is_asked_for_by_its_own_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In the store it has another one, if its own cannot be that of a folder."""
    name = NAMES[2]
    made = found(monkeypatch, Server(closed=(name,)), stored=(target_name(name),))
    assert [each.address.database for each in made.targets] == [name]
    assert made.closed == (name,)
