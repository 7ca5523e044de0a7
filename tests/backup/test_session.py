"""Connections are direct, have their own settings, and report the whole reason if they fail."""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from backup.errors import PreflightError
from backup.postgres.dsn import parse
from backup.postgres.session import connect, login, session, settings
from backup.postgres.snapshot import snapshot
from sidecar import UsageError
from stack import ports
from stack.servers import Postgres
from stack.wait import wait_for
from tests.backup.conftest import NewDatabase
from tests.backup.poolerkit import StandInPooler
from tests.backup.restorekit import Command


@pytest.fixture(scope="module", params=["stand-in", "transaction", "session", "statement"])
def pooler(
    request: pytest.FixtureRequest,
    postgres: Postgres,
    new_database: NewDatabase,
) -> Iterator[tuple[int, str]]:
    """The port of a pooler, and a database behind it: a stand-in, and a real pgbouncer in each of its modes."""
    if request.param == "stand-in":
        name = new_database("CREATE TABLE posts (id int)", "pooled")
        with StandInPooler(postgres.url_for(name)) as stand_in:
            yield stand_in.port, name
        return
    program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        pytest.skip("no pgbouncer on this machine: apt-get install pgbouncer")
    name = new_database("CREATE TABLE posts (id int)", "pooled")
    # Not below pytest's folder, which is closed to the user that pgbouncer runs as.
    folder = Path(tempfile.mkdtemp(prefix="pgbouncer-", dir="/tmp"))
    folder.chmod(0o755)
    port = ports.choose()
    (folder / "users.txt").write_text('"posthub" "posthub"\n')
    (folder / "pgbouncer.ini").write_text(
        f"[databases]\n{name} = host=127.0.0.1 port={postgres.port} dbname={name}\n[pgbouncer]\n"
        f"listen_addr = 127.0.0.1\nlisten_port = {port}\nauth_type = plain\nauth_file = {folder}/users.txt\n"
        f"pool_mode = {request.param}\ndefault_pool_size = 4\nunix_socket_dir =\nlogfile = {folder}/log\n"
        "ignore_startup_parameters = options,extra_float_digits\n"
    )
    (folder / "log").touch()
    (folder / "log").chmod(0o666)
    user = ["-u", "nobody"] if os.geteuid() == 0 else []
    process = subprocess.Popen(
        [program, "-q", *user, str(folder / "pgbouncer.ini")], stderr=subprocess.DEVNULL
    )
    try:
        wait_for(lambda: _answers(port), timeout=150, what="pgbouncer", hint=(folder / "log").read_text())
        yield port, name
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder)


def _answers(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def command(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    return Command(environ, monkeypatch, capsys)


def test_a_pooler_is_refused_and_none_of_its_connections_is_changed(
    pooler: tuple[int, str], command: Command
) -> None:
    port, name = pooler
    url = f"postgresql://posthub:posthub@127.0.0.1:{port}/{name}"
    clients = [psycopg.connect(url, autocommit=True, prepare_threshold=None) for _ in range(3)]
    for client in clients:
        client.execute("SELECT 1")
    try:
        for verb in ("doctor", "run"):
            done = command(verb, DATABASE_URL=url)
            assert done.status in (1, 2), done
            assert "a connection pooler is between us" in done.out + done.err
            assert "the database's own address and port" in done.out + done.err
            assert "Traceback" not in done.out + done.err
        for _ in range(5):
            for client in clients:
                assert client.execute("SHOW search_path").fetchone() == ('"$user", public',)
                client.execute("SELECT count(*) FROM posts")
                assert client.execute("SELECT count(*) FROM pg_prepared_statements").fetchone() == (0,)
    finally:
        for client in clients:
            client.close()


def test_settings_of_the_role_do_not_reach_us(postgres: Postgres, new_database: NewDatabase) -> None:
    name = new_database("SELECT 1", "impatient")
    awkward = {
        "statement_timeout": "1ms",
        "idle_session_timeout": "20ms",
        "quote_all_identifiers": "on",
        "client_encoding": "LATIN2",
        "search_path": "nowhere",
        "default_transaction_read_only": "on",
        "transaction_timeout": "5ms",
        "role": "pg_monitor",
    }
    with psycopg.connect(postgres.url, autocommit=True) as owner:
        for setting, given in awkward.items():
            owner.execute(f"ALTER DATABASE {name} SET {setting} TO '{given}'".encode())
    address = parse(postgres.url_for(name))
    with session(address) as connection:
        connection.execute("SELECT pg_sleep(0.05)")
        for setting, wanted in settings(login(address)).items():
            row = connection.execute("SELECT current_setting(%s)", [setting]).fetchone()
            assert row is not None
            shown = {"0": "0", "30": "30"}.get(row[0], row[0])
            assert shown.replace(" ", "") == wanted.replace(" ", ""), setting
        assert connection.execute("SHOW client_encoding").fetchone() == ("UTF8",)


def test_a_role_that_was_a_superuser(postgres: Postgres, new_database: NewDatabase) -> None:
    """The service runs for months: what a superuser may set is not asked for after it was one."""
    name = new_database("SELECT 1", "demoted")
    with psycopg.connect(postgres.url, autocommit=True) as owner:
        owner.execute(f"CREATE ROLE {name} SUPERUSER LOGIN PASSWORD 'x'")
        address = parse(postgres.url_for(name).replace("//posthub:posthub@", f"//{name}:x@"))
        with session(address) as connection:
            assert connection.execute("SHOW event_triggers").fetchone() == ("off",)
            assert connection.execute(
                "SELECT source FROM pg_settings WHERE name = 'lc_messages'"
            ).fetchone() == ("client",)
        owner.execute(f"ALTER ROLE {name} NOSUPERUSER")
        with session(address) as connection:
            assert connection.execute("SHOW event_triggers").fetchone() == ("on",)
        owner.execute(f"DROP ROLE {name}")


def test_a_role_to_act_as_is_that_of_the_url(
    postgres: Postgres, new_database: NewDatabase, command: Command
) -> None:
    """A setting of the database makes no session act as another role; the URL does, and the advice says so."""
    name = new_database("CREATE TABLE t AS SELECT 1 AS a", "acting")
    login, owner = f"{name}_login", f"{name}_owner"
    url = postgres.url_for(name).replace("//posthub:posthub@", f"//{login}:x@")
    with psycopg.connect(postgres.url_for(name), autocommit=True) as connection:
        connection.execute(
            f"CREATE ROLE {owner}; ALTER TABLE t OWNER TO {owner}; ALTER DATABASE {name} SET role = 'pg_monitor';"
            f"CREATE ROLE {login} LOGIN NOINHERIT PASSWORD 'x' IN ROLE {owner}".encode()
        )
        try:
            command("run", DATABASE_URL=url).fails(2, f"{login} may not read", "GRANT pg_read_all_data")
            connection.execute(f"ALTER ROLE {login} SET role = {owner}".encode())
            refused = command("run", DATABASE_URL=url)
            refused.fails(2, f"{login} is set to act as {owner}", f"?options=-c%20role%3D{owner}")
            command.passed("run", DATABASE_URL=f"{url}?options=-c%20role%3D{owner}")
        finally:
            connection.execute(f"DROP OWNED BY {owner} CASCADE; DROP ROLE {login}, {owner}".encode())


def test_rows_that_a_policy_hides_are_an_error(postgres: Postgres) -> None:
    with session(parse(postgres.url)) as connection:
        assert connection.execute("SHOW row_security").fetchone() == ("off",)


def test_a_table_cannot_be_emptied_between_the_snapshot_and_the_dump(
    postgres: Postgres, new_database: NewDatabase
) -> None:
    address = parse(postgres.url_for(new_database("CREATE TABLE t AS SELECT 1 AS i", "locked")))
    with snapshot(address) as taken:
        with psycopg.connect(address.conninfo, password=address.password, autocommit=True) as other:
            other.execute("SET lock_timeout = '100ms'")
            with pytest.raises(psycopg.errors.LockNotAvailable):
                other.execute("TRUNCATE t")
        assert [table.rows for table in taken.contents.result(60).tables] == [1]


def test_options_of_the_address_stay(postgres: Postgres) -> None:
    address = parse(f"{postgres.url}?options=-c%20work_mem%3D7MB%20-c%20bytea_output%3Descape")
    connection = connect(address)
    try:
        assert connection.execute("SHOW work_mem").fetchone() == ("7MB",)
        assert connection.execute("SHOW bytea_output").fetchone() == ("hex",)
    finally:
        connection.close()


def test_the_whole_reason_is_reported() -> None:
    with pytest.raises(PreflightError, match=r"Connection refused.*Is the server running"):
        connect(parse("postgresql://me@127.0.0.1:1/shop"))


def test_what_is_wrong_with_a_url_is_named() -> None:
    for parameter in ("schema=public", "conn_max_age=600", "pgbouncer=true"):
        with pytest.raises(UsageError, match=f"has the parameter {parameter.partition('=')[0]}"):
            parse(f"postgresql://me:secret@db/shop?{parameter}")
    with pytest.raises(UsageError, match="is not a valid URL") as raised:
        parse("postgresql://me:se[cret@db/shop")
    assert "%5B" in raised.value.hint
    assert "cret" not in str(raised.value)
