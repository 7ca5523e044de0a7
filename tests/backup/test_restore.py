"""Restore, promotion and rollback on a real server, through the command line; and what remains after kill -9 at each step."""

import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psycopg
import pytest

from backup.postgres.databases import WORKING, databases
from backup.postgres.dsn import parse
from backup.restore import database, tables
from backup.restore import names as naming
from backup.service import status_page
from backup.service.metrics import registry
from backup.service.state import new_state
from backup.settings import BackupSettings
from backup.wiring import wire
from stack.servers import Postgres
from stack.wait import wait_for
from tests.backup.conftest import SCHEMA, NewDatabase
from tests.backup.restorekit import Command, names, value

pytest.importorskip("pyrage")

WHOLE = """
ALTER DATABASE {name} SET timezone = 'Asia/Tokyo';
ALTER DATABASE {name} CONNECTION LIMIT 77;
COMMENT ON DATABASE {name} IS E'the shop;\nALTER DATABASE is not a statement here';
REVOKE CONNECT ON DATABASE {name} FROM PUBLIC;
"""


@pytest.fixture
def shop(new_database: NewDatabase, postgres: Postgres) -> str:
    """A database for this test only."""
    name = new_database(SCHEMA, "prod")
    with psycopg.connect(postgres.url_for("postgres"), autocommit=True) as connection:
        connection.execute(WHOLE.format(name=name).encode())
    return name


@pytest.fixture
def command(
    shop: str,
    postgres: Postgres,
    environ: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Command]:
    (tmp_path / "work").mkdir()
    settings = {
        **environ,
        "DATABASE_URL": postgres.url_for(shop),
        "BACKUP_WORK_DIR": str(tmp_path / "work"),
        "BACKUP_RESTORE_JOBS": "2",
    }
    yield Command(settings, monkeypatch, capsys)
    assert list((tmp_path / "work").iterdir()) == []
    assert names(postgres, WORKING) == []
    with databases(parse(postgres.url)) as server:
        for name in server.starting_with(shop):
            server.drop(name)


def lose(postgres: Postgres, database: str) -> None:
    """Delete rows by accident, so that the backup is needed."""
    value(
        postgres,
        database,
        "WITH gone AS (DELETE FROM posts WHERE id > 10 RETURNING 1) SELECT count(*) FROM gone",
    )


def count(postgres: Postgres, database: str) -> int:
    return int(value(postgres, database, "SELECT count(*) FROM posts"))


def test_there_and_back(command: Command, postgres: Postgres, shop: str) -> None:
    made = command.passed("run")
    lose(postgres, shop)
    # The only PostgreSQL database is meant, even with several Redis servers.
    done = command("restore", "--dry-run", BACKUP_REDIS_URLS="broker=redis://127.0.0.1:9/0")
    assert done.status == 0
    assert [line for line in database.STEPS if line not in done.out] == []
    assert names(postgres, shop) == []
    restored = command.passed("restore", "latest")
    into = restored["into"]
    assert into == f"{shop}_restored_{made['id'].partition('-')[0].lower()}"
    assert (restored["ok"], restored["differences"], restored["rows"]) == (True, [], made["rows"])
    assert (count(postgres, into), count(postgres, shop)) == (2000, 10)
    assert names(postgres, shop) == [into]
    # A second time: it exists, and nothing is done.
    assert command.passed("restore", "latest")["found"] is True
    promoted = command.passed("promote", into, "--yes-i-mean", shop)
    kept = promoted["kept"]
    assert kept.startswith(f"{shop}_before_2")
    assert (count(postgres, shop), count(postgres, kept)) == (2000, 10)
    assert command.passed("promote", into, "--yes-i-mean", shop)["found"] is True
    assert names(postgres, shop) == [kept]
    # The properties of the database were restored.
    assert value(postgres, shop, "SHOW timezone") == "Asia/Tokyo"
    about = "FROM pg_database WHERE datname = current_database()"
    assert value(postgres, shop, f"SELECT datconnlimit {about}") == 77
    assert value(postgres, shop, f"SELECT shobj_description(oid, 'pg_database') {about}").startswith(
        "the shop;\nALTER"
    )
    assert " =T/" in value(postgres, shop, f"SELECT array_to_string(datacl, ' ') {about}")
    assert value(postgres, shop, "SELECT count(*) FROM pg_stats WHERE tablename = 'posts'") > 0
    # Roll back, keeping what was written meanwhile, and promote again.
    value(
        postgres,
        shop,
        "WITH new AS (INSERT INTO channels (name) VALUES ('new') RETURNING 1) SELECT count(*) FROM new",
    )
    back = command.passed("rollback", "--yes-i-mean", shop)
    assert (count(postgres, shop), count(postgres, back["kept"])) == (10, 2000)
    assert command.passed("rollback", "--yes-i-mean", shop)["found"] is True
    assert value(postgres, back["kept"], "SELECT count(*) FROM channels") == 21
    command.passed("promote", back["kept"], "--yes-i-mean", shop)
    assert count(postgres, shop) == 2000
    # A later backup of the promoted database does not contain our marks.
    command.passed("run")
    later = command.passed("restore", "latest", "--into", f"{shop}_later")
    assert later["ok"]


@pytest.mark.parametrize("verb", ["doctor", "verify", "drill", "restore"])
def test_an_empty_disk(command: Command, tmp_path: Path, verb: str, shop: str) -> None:
    """As in a cluster, whose empty volume hides the work folder that the image has."""
    command.passed("run")
    more = ("--into", f"{shop}_moved") if verb == "restore" else ()
    # A short path: PostgreSQL's sockets are in it.
    work = tmp_path / "disk" / "w"
    work.parent.mkdir()
    done = command(verb, *more, "--json", BACKUP_WORK_DIR=str(work))
    if verb == "doctor":
        assert {check["name"]: check["ok"] for check in done.json}["work folder"] is True
    else:
        done.passes()
    assert list(work.parent.iterdir()) == [work]
    assert list(work.iterdir()) == []


def test_refusals(command: Command, postgres: Postgres, shop: str, new_database: NewDatabase) -> None:
    command.passed("run")
    other = new_database("SELECT 1", "other")
    refused = {
        "is the live database": ["restore", "--into", shop],
        "not created by a restore": ["restore", "--into", other],
        "too long": ["restore", "--into", "x" * 64],
        "cannot be combined": ["restore", "--schema", "side"],
        "has no table public.no": ["restore", "--table", "no"],
        "no restored database": ["promote", "--yes-i-mean", shop],
        "nothing": ["promote", "nothing", "--yes-i-mean", shop],
        "was not created by a restore": ["promote", other, "--yes-i-mean", shop],
        "was not promoted": ["rollback", "--yes-i-mean", shop],
        "backup 20200101T000000Z-000000 does not exist": ["restore", "20200101T000000Z-000000"],
        "backup of PostgreSQL": ["restore", "--to", "/tmp/x.rdb"],
    }
    for message, arguments in refused.items():
        done = command(*arguments)
        done.fails(2, message, "Try: ")
    into = command.passed("restore")["into"]
    done = command("promote", into)
    assert done.status == 2, done.err
    assert "cannot ask for confirmation without a terminal" in done.err
    done = command("promote", into, "--yes-i-mean", "posthub")
    assert done.status == 2, done.err
    assert f"nothing was changed; {into} is kept: python -m backup promote {into}" in done.err
    assert command("promote", into, "--dry-run").status == 0
    assert names(postgres, shop) == [into]
    weak = postgres.url_for(shop).replace("posthub:posthub@", "weak_restorer:pw-of-weak@")
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute("CREATE ROLE weak_restorer LOGIN PASSWORD 'pw-of-weak'")
        connection.execute(f"GRANT CONNECT ON DATABASE {shop} TO weak_restorer")
    done = command("restore", "--into", f"{shop}_weak", BACKUP_RESTORE_URL=weak)
    done.fails(2, "may not create databases")
    assert "pw-of-weak" not in done.err


def test_a_restore_that_is_not_proven_is_not_promoted(
    command: Command, postgres: Postgres, shop: str, tmp_path: Path
) -> None:
    command.passed("run")
    checks = tmp_path / "checks"
    checks.mkdir()
    (checks / "posts.sql").write_text("SELECT count(*) > 5000 FROM posts")
    done = command("restore", BACKUP_VERIFY_CHECKS_DIR=str(checks))
    assert done.status == 1
    assert "NOT VERIFIED" in done.out
    assert "check posts.sql: expected true, found False" in done.out
    into = names(postgres, shop)[0]
    done = command("promote", into, "--yes-i-mean", shop)
    done.fails(2, "is not verified")
    # The next run creates it again.
    restored = command.passed("restore")
    assert (restored["into"], restored["found"], restored["ok"]) == (into, False, True)


def test_killed_at_each_step(command: Command, postgres: Postgres, shop: str) -> None:
    """Production does not change before the promotion; a second run starts from scratch and completes."""
    command.passed("run")
    lose(postgres, shop)
    into = f"{shop}_new"
    for step in database.STEPS:
        assert command.killed_at(step, "restore", "--into", into), step
        assert (count(postgres, shop), into in names(postgres, shop)) == (10, False), step
    assert _insisted(command, "restore", "--into", into)["ok"]
    assert names(postgres, shop) == [into]
    for step in (f"look at {shop}", f"swap: {shop}"):
        command.killed_at(step, "promote", into, "--yes-i-mean", shop)
        _check_whole(postgres, shop, into)
    kept = _insisted(command, "promote", into, "--yes-i-mean", shop)["kept"]
    assert (count(postgres, shop), names(postgres, shop)) == (2000, [kept])
    for step in (f"look at {shop}", f"swap: {shop}"):
        command.killed_at(step, "rollback", "--yes-i-mean", shop)
        assert count(postgres, shop) in (10, 2000)
    _insisted(command, "rollback", "--yes-i-mean", shop)
    assert count(postgres, shop) == 10


def _check_whole(postgres: Postgres, shop: str, into: str) -> None:
    """The swap has happened completely or not at all."""
    there = names(postgres, shop)
    rows = count(postgres, shop)
    assert (rows, there == [into]) == (10, True) or (rows, into in there, len(there)) == (2000, False, 1)


def _insisted(command: Command, *arguments: str) -> dict[str, object]:
    """The lock of a process that was killed ends with its connection, which the server notices within moments."""
    deadline = time.monotonic() + 150
    while True:
        done = command(*arguments, "--json")
        if done.status == 0 or time.monotonic() > deadline:
            assert done.status == 0, done
            return dict(done.json)
        time.sleep(0.2)


HARMLESS = (
    "VACUUM",
    "VACUUM (FREEZE, ANALYZE)",
    "SELECT count(*) FROM posts",
    "CREATE TEMP TABLE own (a int)",
)
CHANGES = {
    "INSERT INTO channels (name) VALUES ('late'), ('later')": "2 rows written",
    "UPDATE posts SET body = '' WHERE id = 1": "3 rows written",
    "SELECT lo_from_bytea(0, 'x')": "4 rows written",
    "TRUNCATE posts": "4 rows written, definitions changed",
}


def test_a_restored_database_that_was_changed_is_reported(
    command: Command, postgres: Postgres, shop: str
) -> None:
    command.passed("run")
    into = command.passed("restore", "latest")["into"]

    def after(*statements: str) -> str:
        for statement in statements:
            with psycopg.connect(postgres.url_for(into), autocommit=True) as connection:
                connection.execute(statement.encode())
        return str(command("promote", "--dry-run", "--json").json["changed"])

    def shows(found: str) -> bool:
        return after().endswith(f": {found}")

    assert after(*HARMLESS) == ""
    with psycopg.connect(postgres.url_for(into), autocommit=True) as reader:
        reader.execute("CREATE TEMP TABLE own AS SELECT * FROM posts; CREATE INDEX ON own (id)")
        reader.execute("CREATE TEMP VIEW mine AS SELECT * FROM own; SELECT pg_stat_force_next_flush()")
        assert after() == ""
    for statement, found in CHANGES.items():
        after(statement)
        # The server's counters are written when a session ends.
        wait_for(partial(shows, found), timeout=60, what=found, hint=statement)
    done = command("promote", "--dry-run")
    assert f"WARNING: {into}: changed since it was verified: 4 rows written" in done.err


def test_a_pool_that_reconnects_at_once_does_not_block_a_promotion(
    command: Command, postgres: Postgres, shop: str
) -> None:
    command.passed("run")
    command.passed("restore", "--into", f"{shop}_new")
    over, ended = threading.Event(), []

    def client() -> None:
        while not over.is_set():
            try:
                with psycopg.connect(
                    postgres.url_for(shop), connect_timeout=5, application_name="pool"
                ) as mine:
                    while not over.is_set():
                        mine.execute("SELECT count(*) FROM posts")
            except psycopg.Error as error:
                ended.append(str(error))

    clients = [threading.Thread(target=client) for _ in range(4)]
    for thread in clients:
        thread.start()
    try:
        while "pool" not in str(command("promote", "--dry-run").err):
            time.sleep(0.05)
        begin = time.monotonic()
        promoted = command.passed("promote", "--yes-i-mean", shop)
        assert time.monotonic() - begin < 10
    finally:
        over.set()
        for thread in clients:
            thread.join()
    assert ended
    assert names(postgres, shop) == [promoted["kept"]]


def test_confirmation_by_typing_the_name(command: Command, postgres: Postgres, shop: str) -> None:
    command.passed("run")
    command.passed("restore", "--into", f"{shop}_new")
    lose(postgres, shop)
    status, seen = command.typed("yes\nno\nwhat", "promote")
    assert status == 2, seen
    assert seen.count(f"Type {shop} to continue") == 3
    assert f"{shop}_new is kept: python -m backup promote {shop}_new" in seen
    assert names(postgres, shop) == [f"{shop}_new"]
    status, seen = command.typed(f"typo\n{shop}", "promote")
    assert status == 0, seen
    assert "is in production" in seen
    # Before the question: the moment, and the differences.
    asked = seen.partition("Type ")[0]
    assert f"{shop} will lose what was written in the " in asked
    assert [line.split() for line in asked.splitlines() if "public.posts" in line] == [
        ["public.posts", "10", "2,000"]
    ], seen


def test_a_second_accident(command: Command, postgres: Postgres, shop: str) -> None:
    """The same command again never succeeds without restoring anything."""
    command.passed("run")
    into = command.passed("restore")["into"]
    command.passed("promote", into, "--yes-i-mean", shop)
    lose(postgres, shop)
    done = command("restore", "latest")
    assert done.status == 1, done
    assert "was promoted into production at" in done.err
    assert "NOTHING was restored" in done.err
    assert "--again" in done.err
    assert command("restore", "latest", "--dry-run").status == 1
    assert command("promote", into, "--yes-i-mean", "wrong").status == 2
    planned = command.passed("restore", "latest", "--dry-run", "--continue")
    assert planned["promoted_at"], planned
    assert planned["production"] == shop
    assert command.passed("restore", "latest", "--continue")["promoted"] is True
    assert count(postgres, shop) == 10
    status, seen = command.typed("y", "restore", "latest")
    assert status == 0, seen
    assert "Restore it once more?" in seen
    command.passed("promote", into, "--yes-i-mean", shop)
    assert count(postgres, shop) == 2000


def test_unlike(command: Command, postgres: Postgres, shop: str, tmp_path: Path) -> None:
    """A proven backup without the lost data is named everywhere, and not restored without asking."""
    usual = [command.passed("run")["id"] for _ in range(3)]
    lose(postgres, shop)
    command.passed("run")
    unlike = command.passed("run")["id"]
    fell = "rows of public.posts fell to 10 from a median of 2000"
    listed = {each["id"]: (each["unlike"], each["anomalies"]) for each in command.passed("list")}
    assert [listed[each][0] for each in usual] == [False] * 3
    assert listed[unlike][0], listed
    assert any(fell in each for each in listed[unlike][1])
    assert "unverified, unlike" in command("list").out
    assert f"unlike: {fell}" in command("list").out
    assert fell in command("show", unlike).out
    state = new_state(wire(BackupSettings.load(command.environ)))
    state.refresh()
    page = status_page.render(state)
    assert f"{unlike} differs from the backups before it: {fell}" in page
    assert "unverified, unlike" in page
    for arguments in (["verify"], ["drill"], ["download", "--to", str(tmp_path)]):
        done = command(*arguments, unlike)
        done.passes()
        assert fell in done.err
    command("restore", "latest").fails(2, fell, f"{usual[-1]}, which is not verified")
    command.passed("verify", usual[-1])
    done = command("restore", "latest")
    done.fails(2, fell, f"the newest verified one without this warning: {usual[-1]}")
    assert "nothing was restored" in done.err
    assert fell in command("restore", unlike, "--dry-run").err
    assert fell in command("restore", unlike, "--table", "posts", "--dry-run").err
    into = command.passed("restore", unlike)["into"]
    assert fell in command("promote", into, "--dry-run").err


def test_the_newest_before_a_moment(command: Command) -> None:
    """A person knows when rows were lost, but not which backup is older."""
    early = command.passed("run")["id"]
    command.passed("verify", early)
    middle = command.passed("run")
    late = command.passed("run")

    def planned(*words: str) -> str:
        return str(command.passed("restore", "--dry-run", *words)["id"])

    assert planned("--before", late["taken"]) == early
    assert planned("--before", "2099-01-01") == early
    command.passed("verify", middle["id"])
    assert planned("--before", late["taken"]) == middle["id"]
    assert planned("--before", "2099-01-01") == middle["id"]
    done = command("restore", "--before", "1h", "--dry-run")
    done.fails(2, "has data from before")
    assert command("restore", middle["id"], "--before", "1h").status == 2


def test_a_failed_swap_changes_nothing(command: Command, postgres: Postgres, shop: str) -> None:
    command.passed("run")
    command.passed("restore", "--into", f"{shop}_new")
    with psycopg.connect(postgres.url_for("postgres"), autocommit=True) as holder:
        with holder.transaction():
            # Holds the lock that a rename needs.
            holder.execute(f"COMMENT ON DATABASE {shop}_new IS 'held'")
            locked = command("promote", "--yes-i-mean", shop)
        locked.fails(1, "nothing was changed")
    assert names(postgres, shop) == [f"{shop}_new"]
    assert count(postgres, shop) == 2000


def test_single_tables(command: Command, postgres: Postgres, shop: str) -> None:
    command.passed("run")
    lose(postgres, shop)
    for step in tables.STEPS:
        assert command.killed_at(step, "restore", "--table", "posts", "--schema", "side")
        complete = step == tables.STEPS[-1]
        assert value(postgres, shop, "SELECT to_regclass('side.posts') IS NOT NULL") is complete, step
    wanted = [
        "--table",
        "posts",
        "--table",
        "public.Mixed Case",
        "--table",
        "events_2026",
        "--schema",
        "Side Show",
    ]
    assert command("restore", *wanted, "--dry-run").status == 0
    for _ in range(2):  # the second time, it is created again
        restored = command.passed("restore", *wanted)
        assert (restored["ok"], restored["differences"]) == (True, [])
    assert value(postgres, shop, 'SELECT count(*) FROM "Side Show".posts') == 2000
    assert (
        value(postgres, shop, 'SELECT "a ""quoted"" one" FROM "Side Show"."Mixed Case" WHERE id = 1')
        == "tab\tnew\nline\\."
    )
    assert value(postgres, shop, 'SELECT count(*) FROM "Side Show".events_2026') == 301
    assert count(postgres, shop) == 10
    done = command("restore", "--table", "posts", "--schema", "public")
    done.fails(2, "not created by a restore")


def test_single_tables_do_not_touch_the_live_ones(
    command: Command, postgres: Postgres, new_database: NewDatabase
) -> None:
    name = new_database(
        "CREATE SCHEMA a; CREATE SCHEMA b; CREATE TABLE a.t1 (i int); CREATE TABLE a.t2 (i int); CREATE TABLE b.t2 (i int);"
        "INSERT INTO a.t2 VALUES (42); INSERT INTO b.t2 VALUES (7), (8); CREATE TABLE parent (i int);"
        "CREATE TABLE child (j int) INHERITS (parent); INSERT INTO child VALUES (1, 2)",
        "tables",
    )
    there = {"DATABASE_URL": postgres.url_for(name)}
    wanted = ("restore", "--table", "a.t1", "--table", "b.t2", "--schema", "side")
    assert command("run", **there).status == 0
    assert command(*wanted, **there).status == 0
    with psycopg.connect(postgres.url_for(name)) as connection:
        connection.execute("DROP TABLE a.t2")
    assert command(*wanted, **there).status == 0
    assert value(postgres, name, "SELECT to_regclass('a.t2') IS NULL") is True
    assert value(postgres, name, "SELECT count(*) FROM side.t2") == 2
    done = command("restore", "--table", "child", "--schema", "other", **there)
    done.fails(2, "columns from another")
    assert value(postgres, name, "SELECT count(*) FROM parent") == 1
    assert value(postgres, name, "SELECT to_regnamespace('other') IS NULL") is True


def test_partitioned_tables_and_whole_schemas(
    command: Command, postgres: Postgres, new_database: NewDatabase
) -> None:
    name = new_database(
        'CREATE SCHEMA shop; CREATE TABLE shop."Big One" (at date, k int, x text) PARTITION BY RANGE (at);'
        "CREATE TABLE shop.p1 PARTITION OF shop.\"Big One\" FOR VALUES FROM ('2026-01-01') TO ('2026-02-01') PARTITION BY LIST (k);"
        'CREATE TABLE shop.p1a PARTITION OF shop.p1 FOR VALUES IN (1); CREATE TABLE shop."p1; rest" PARTITION OF shop.p1 DEFAULT;'
        "CREATE TABLE shop.p2 (x text, k int, at date); ALTER TABLE shop.\"Big One\" ATTACH PARTITION shop.p2 FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');"
        'CREATE TABLE shop.other (i int); CREATE TABLE "Big One" (i int); INSERT INTO shop.other VALUES (7);'
        "INSERT INTO shop.\"Big One\" SELECT date '2026-01-10' + i, i % 3, 'x' FROM generate_series(0, 40) i",
        "parts",
    )
    there = {"DATABASE_URL": postgres.url_for(name)}
    command.passed("run", **there)
    done = command.passed("restore", "--table", "shop.Big One", "--schema", "side", **there)
    assert done["differences"] == []
    assert sorted(done["tables"]) == ["shop.Big One", "shop.p1", "shop.p1; rest", "shop.p1a", "shop.p2"]
    rows = "SELECT count(*) || ' ' || sum(k) FROM {}.\"Big One\""
    assert value(postgres, name, rows.format("side")) == value(postgres, name, rows.format("shop")) == "41 40"
    done = command.passed("restore", "--table", "shop.p1", "--schema", "side", **there)
    assert value(postgres, name, "SELECT count(*) FROM side.p1") == done["rows"] == 22
    done = command.passed("restore", "--table", "shop.*", "--schema", "whole", **there)
    assert (len(done["tables"]), done["rows"], done["differences"]) == (6, 42, [])
    assert value(postgres, name, "SELECT i FROM whole.other") == 7
    for unknown in ("shop.nothing", "nowhere.*"):
        done_wrong = command("restore", "--table", unknown, "--schema", "side", **there)
        done_wrong.fails(2, f"has no table {unknown}")
    assert value(postgres, name, 'SELECT count(*) FROM shop."Big One"') == 41


def test_a_table_whose_name_has_two_lines(
    command: Command, postgres: Postgres, new_database: NewDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dump shows the name on one line in the heading of the table."""
    name = new_database('CREATE TABLE "two\nlines" (a int); INSERT INTO "two\nlines" VALUES (7)', "lines")
    there = {"DATABASE_URL": postgres.url_for(name)}
    command.passed("run", **there)
    done = command.passed("restore", "--table", "two\nlines", "--schema", "side", **there)
    assert (done["rows"], done["differences"]) == (1, [])
    assert value(postgres, name, 'SELECT a FROM side."two\nlines"') == 7
    # Whatever the reason, a table that did not come back is a difference.
    monkeypatch.setattr(tables, "_carry_out", lambda *_: None)
    done = command("restore", "--table", "two\nlines", "--schema", "side", **there)
    done.fails(1, "expected 1, found nothing")


@pytest.mark.parametrize(
    ("kind", "key"), [("state", "%s"), ("state[]", "ARRAY[%s]")], ids=["plain", "within a list"]
)
def test_partitions_by_hash_of_an_enumeration(
    command: Command, postgres: Postgres, new_database: NewDatabase, kind: str, key: str
) -> None:
    """A dump has the rows of each as those of the table above, because the hash changes with the restored type."""
    name = new_database(
        f"CREATE TYPE state AS ENUM ('new', 'old', 'gone'); CREATE TABLE jobs (s {kind}, n int) PARTITION BY HASH (s);"
        "CREATE TABLE j0 PARTITION OF jobs FOR VALUES WITH (MODULUS 2, REMAINDER 0);"
        "CREATE TABLE j1 PARTITION OF jobs FOR VALUES WITH (MODULUS 2, REMAINDER 1) PARTITION BY LIST (n);"
        "CREATE TABLE j1a PARTITION OF j1 FOR VALUES IN (1, 2, 3); CREATE TABLE j1b PARTITION OF j1 DEFAULT;"
        f"INSERT INTO jobs SELECT {key % '(enum_range(NULL::state))[1 + i % 3]'}, i FROM generate_series(1, 30) i",
        "hashed",
    )
    there = {"DATABASE_URL": postgres.url_for(name)}
    command.passed("run", **there)
    done = command.passed("restore", "--table", "jobs", "--schema", "side", **there)
    assert (done["rows"], done["differences"]) == (30, [])
    assert value(postgres, name, "SELECT count(*) || ' ' || sum(n) FROM side.jobs") == "30 465"
    for part in ("j0", "j1a"):
        done = command.passed("restore", "--table", part, "--schema", part, **there)
        assert value(postgres, name, f"SELECT count(*) FROM {part}.{part}") == done["rows"]
    # The hashes of a type that was made again are other ones.
    with psycopg.connect(postgres.url_for(name), autocommit=True) as connection:
        connection.execute(
            "DROP TABLE jobs; DROP SCHEMA side CASCADE; DROP SCHEMA j0, j1a CASCADE; DROP TYPE state"
        )
        for _ in range(3):
            connection.execute("DROP TYPE IF EXISTS state; CREATE TYPE state AS ENUM ('new', 'old', 'gone')")
    done = command.passed("restore", "--table", "jobs", "--schema", "side", **there)
    assert value(postgres, name, "SELECT count(*) || ' ' || sum(n) FROM side.jobs") == "30 465"


def test_a_drill(command: Command, postgres: Postgres, shop: str) -> None:
    command.passed("run")
    done = command.passed("drill")
    assert (done["ok"], done["rows"]) == (True, 2323)
    assert 0 < done["rto_seconds"] < 120
    assert done["rpo_seconds"] > 0
    assert names(postgres, shop) == []
    assert command("drill", "--dry-run").status == 0
    shown = _metrics(command)
    assert shown["backup_last_drill_success"] == 1.0
    assert shown["backup_drill_rto_seconds"] == pytest.approx(done["rto_seconds"])
    assert shown["backup_drill_rpo_seconds"] == pytest.approx(done["rpo_seconds"])
    assert time.time() - shown["backup_last_drill_timestamp_seconds"] < 300


def _metrics(command: Command) -> dict[str, float]:
    """The metrics that the service would expose now, by name."""
    state = new_state(wire(BackupSettings.load(command.environ)))
    state.refresh()
    return {sample.name: sample.value for family in registry(state).collect() for sample in family.samples}


def test_data_of_another_database_is_never_promoted(
    command: Command, postgres: Postgres, shop: str, new_database: NewDatabase
) -> None:
    other = new_database("CREATE TABLE blog (i int)", "blog")
    both = {
        "DATABASE_URL": "",
        "BACKUP_DATABASE_URLS": f"{shop}={postgres.url_for(shop)},{other}={postgres.url_for(other)}",
        # Only its role matters, not its database: one setting serves all databases.
        "BACKUP_RESTORE_URL": postgres.url_for(shop),
    }
    assert command("run", **both).status == 0
    done = command("restore", "--database", other, "--json", **both)
    done.passes()
    assert done.json["into"].startswith(f"{other}_restored_")
    chosen = command("promote", "--database", shop, "--yes-i-mean", shop, **both)
    chosen.fails(2, "no restored database")
    named = command("promote", done.json["into"], "--database", shop, "--yes-i-mean", shop, **both)
    named.fails(2, f"contains {other}")
    assert count(postgres, shop) == 2000
    done = command("promote", "--database", other, "--yes-i-mean", other, **both)
    assert done.status == 0, done
    with databases(parse(postgres.url)) as server:
        for name in server.starting_with(f"{other}_"):
            server.drop(name)


def test_run_again_after_the_promotion(command: Command, postgres: Postgres, shop: str) -> None:
    """Later writes are set aside only on request, and every earlier state can be restored."""

    def write(name: str) -> None:
        with psycopg.connect(postgres.url_for(shop)) as connection:
            connection.execute("INSERT INTO channels (name) VALUES (%s)", [name])

    def written() -> list[str]:
        return list(
            value(postgres, shop, "SELECT coalesce(array_agg(name), '{}') FROM channels WHERE id > 20")
        )

    command.passed("run")
    write("original")
    into = command.passed("restore")["into"]
    original = command.passed("promote", into, "--yes-i-mean", shop)["kept"]
    write("since")
    again = command.passed("restore", "--continue")
    assert (again["found"], again["promoted"], again["into"]) == (True, True, into)
    assert command.passed("promote", into, "--yes-i-mean", shop)["found"] is True
    assert written() == ["since"]
    again = command.passed("restore", "--again")
    assert (again["found"], again["promoted"], again["into"]) == (False, False, into)
    second = _insisted(command, "promote", into, "--yes-i-mean", shop)["kept"]
    assert written() == []
    assert second != original
    _insisted(command, "promote", original, "--yes-i-mean", shop)
    assert written() == ["original"]


def test_leftovers_of_a_killed_restore_are_removed_by_the_next(
    command: Command, postgres: Postgres, shop: str
) -> None:
    command.passed("run")
    assert command.killed_at(database.STEPS[5], "restore", "--into", f"{shop}_one")
    deadline = time.monotonic() + 150
    while names(postgres, WORKING) and time.monotonic() < deadline:
        command.passed("restore", "--into", f"{shop}_two", "--again")
    assert names(postgres, WORKING) == []


def test_an_owner_with_createdb_is_enough(
    command: Command, postgres: Postgres, new_database: NewDatabase
) -> None:
    name = new_database("SELECT 1", "owned")
    with psycopg.connect(postgres.url_for(name), autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {name} LOGIN CREATEDB PASSWORD 'pw-of-owner'")
        connection.execute(f"ALTER DATABASE {name} OWNER TO {name}")
        connection.execute(f"COMMENT ON DATABASE {name} IS E'its own\n\ncomment'")
        connection.execute(f"ALTER SCHEMA public OWNER TO {name}; SET ROLE {name}; CREATE TABLE t (i int)")
    url = postgres.url_for(name).replace("posthub:posthub@", f"{name}:pw-of-owner@")
    owner = {"DATABASE_URL": postgres.url_for(name), "BACKUP_RESTORE_URL": url}
    for verb in (["run"], ["restore"], ["promote", "--yes-i-mean", name], ["rollback", "--yes-i-mean", name]):
        done = command(*verb, **owner)
        assert done.status == 0, done
    about = f"SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = '{name}'"
    assert value(postgres, name, about).startswith("its own\n\ncomment\nposthub-ops: ")
    with databases(parse(postgres.url)) as server:
        for each in server.starting_with(name):
            server.drop(each)


def test_latest_is_not_silently_an_older_one(command: Command, shop: str, tmp_path: Path) -> None:
    older, newest = sorted(command.passed("run")["id"] for _ in range(2))
    manifest = tmp_path / "store" / shop / newest / "manifest.json"
    manifest.write_bytes(manifest.read_bytes()[:-20])
    done = command("restore", "latest")
    # One invalid file does not prevent a restore; the file and the reason are reported.
    assert done.status == 0, done
    assert f"note: {newest} is newer than {older} and cannot be read" in done.err
    assert command.passed("restore", older, "--dry-run")["found"] is True
    facts = command.passed("restore", older, "--dry-run", "--into", f"{shop}_other")
    assert (facts["id"], facts["found"]) == (older, False)
    assert facts["server_bytes"] > 1_000_000
    done = command("drill", "--dry-run")
    done.passes(newest)


def test_names() -> None:
    long = "ü" * 40
    assert naming.restored("shop", "20261123T050000Z-ab12cd") == "shop_restored_20261123t050000z"
    assert naming.fits(naming.restored(long, "20261123T050000Z-ab12cd"))
    assert naming.working("a") != naming.working("b")
    assert not naming.fits("")
