"""Commands about single backups: hold, compare and download; and the databases that promotions leave behind."""

import json
import stat
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

from backup.catalogue import layout
from backup.catalogue.document import encode
from backup.catalogue.hold import Hold
from backup.catalogue.manifest import Extension, Keyspace, Sequence, Table
from backup.postgres.databases import databases
from backup.postgres.dsn import parse
from backup.replication.offsite import copy_missing
from backup.settings import BackupSettings
from backup.store import LocalStore
from backup.wiring import wire
from stack.programs import postgres_bin
from stack.servers import Postgres
from tests.backup.conftest import SCHEMA, NewDatabase
from tests.backup.documents import KEYS, NOW, OTHERS, manifest, put
from tests.backup.restorekit import Command, names

pyrage = pytest.importorskip("pyrage")


@pytest.fixture
def shop(new_database: NewDatabase, postgres: Postgres) -> Iterator[str]:
    name = new_database(SCHEMA, "kept")
    yield name
    with databases(parse(postgres.url)) as server:
        for each in server.starting_with(name):
            server.drop(each)


@pytest.fixture
def command(
    shop: str,
    postgres: Postgres,
    environ: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Command:
    return Command({**environ, "DATABASE_URL": postgres.url_for(shop)}, monkeypatch, capsys)


@pytest.fixture
def store(environ: dict[str, str]) -> LocalStore:
    return LocalStore(Path(environ["BACKUP_STORE_URL"].removeprefix("file://")), "main")


@pytest.fixture
def looking(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """On a host that can reach only the store."""
    return Command({"BACKUP_STORE_URL": environ["BACKUP_STORE_URL"]}, monkeypatch, capsys)


def test_a_backup_on_hold_outlives_the_rules(command: Command) -> None:
    keeps = {
        "BACKUP_KEEP_LAST": "1",
        "BACKUP_KEEP_FLOOR": "1",
        "BACKUP_KEEP_DAILY": "0",
        "BACKUP_KEEP_WEEKLY": "0",
        "BACKUP_KEEP_MONTHLY": "0",
    }
    ids = [command.passed("run", "--verify")["id"] for _ in range(3)]
    done = command("hold", ids[0][-6:], "--reason", "before the migration")
    done.passes(f"{ids[0]} is on hold")
    assert [each["on_hold"] for each in command.passed("list")] == [False, False, True]
    assert "verified, on hold" in command("list").out
    assert [each["id"] for each in command.passed("list", "--state", "on hold")] == [ids[0]]
    assert "before the migration" in command("show", ids[0]).out
    assert command.passed("show", ids[0])["hold"]["reason"] == "before the migration"
    (pruned,) = command.passed("prune", **keeps).values()
    assert pruned["deleted"] == [ids[1]]
    assert next(each for each in pruned["decisions"] if each["id"] == ids[0])["reasons"] == ["on hold"]
    assert command("release", ids[1]).status == 2  # it was deleted
    assert command("release", ids[2]).status == 2  # it is not on hold
    # A key that cannot delete can release.
    assert command.passed("release", ids[0], BACKUP_DELETE="never")["held"] is False
    (pruned,) = command.passed("prune", **keeps).values()
    assert pruned["deleted"] == [ids[0]]
    assert [each["id"] for each in command.passed("list")] == [ids[2]]


def test_a_hold_follows_the_copy(command: Command, tmp_path: Path) -> None:
    (tmp_path / "offsite").mkdir()
    more = {"BACKUP_OFFSITE_STORE_URL": f"file://{tmp_path}/offsite"}
    wiring = wire(BackupSettings.load({**command.environ, **more}))
    made = command.passed("run")["id"]

    def copied() -> bool:
        copy_missing(wiring, wiring.targets[0])
        assert wiring.offsite is not None
        found = wiring.reader(wiring.offsite).read(NOW).history(wiring.targets[0].name).find(made)
        assert found is not None
        return found.on_hold

    assert copied() is False
    command.passed("hold", made)
    assert copied() is True
    command.passed("release", made)
    assert copied() is False


@pytest.mark.parametrize("content", ["not JSON", "by others", "of another backup", "released by others"])
def test_a_doubt_about_a_hold_keeps_the_backup(store: LocalStore, looking: Command, content: str) -> None:
    made, other = manifest(NOW), manifest(NOW - timedelta(hours=1))
    put(store, made, KEYS)
    document = Hold(
        backup=other.id if content == "of another backup" else made.id,
        database="shop",
        held=not content.startswith("released"),
        moment=NOW,
    )
    data = b"{" if content == "not JSON" else encode(document, OTHERS if content.endswith("others") else KEYS)
    store.put(layout.hold("shop", made.id), data)
    key = {"BACKUP_MANIFEST_KEY": "k" * 32}
    assert looking.passed("list", **key)[0]["on_hold"] is True
    assert "cannot be trusted" in looking("show", made.id, **key).out
    looking.passed("release", made.id, **key)
    assert looking.passed("list", **key)[0]["on_hold"] is False


def tables(**rows: int) -> tuple[Table, ...]:
    return tuple(Table(schema="public", name=name, rows=count) for name, count in rows.items())


def test_two_backups_compared(store: LocalStore, looking: Command) -> None:
    before = manifest(
        NOW - timedelta(days=1),
        tables=tables(posts=42_801, users=10, old=3),
        roles=("app", "guest"),
        extensions=(Extension(name="vector", version="0.7"),),
        sequences=(Sequence(name="public.ids", last_value=1),),
    )
    after = manifest(
        NOW,
        tables=tables(posts=40_198, users=10, new=7),
        roles=("app",),
        extensions=(Extension(name="vector", version="0.8"),),
        sequences=(Sequence(name="public.ids", last_value=9),),
    )
    for made in (before, after):
        put(store, made)
    facts = looking.passed("diff", before.id[-6:], "-d", "shop")
    assert [(each["name"], each["before"], each["after"]) for each in facts["counts"]] == [
        ("public.posts", 42_801, 40_198),
        ("public.new", None, 7),
        ("public.old", 3, None),
    ]
    assert facts["same"] == 1
    shown = looking("diff", before.id, after.id).out
    posts = next(line for line in shown.splitlines() if line.startswith("public.posts"))
    assert posts.split() == ["public.posts", "42,801", "40,198", "-2,603"]
    assert "extension vector 0.7 is gone\nextension vector 0.8 is new\nrole guest is gone\n" in shown
    assert "1 table has the same number of rows in both" in shown
    redis = manifest(
        NOW, kind="redis", database="cache", keyspaces=(Keyspace(number=0, keys=5, keys_after=5),)
    )
    put(store, redis)
    assert looking("diff", before.id, redis.id).status == 2
    assert looking.passed("diff", redis.id, redis.id)["counts"] == []


def test_a_plain_archive_for_pg_restore(command: Command, tmp_path: Path) -> None:
    identity = pyrage.x25519.Identity.generate()
    made = command.passed("run", BACKUP_AGE_RECIPIENTS=str(identity.to_public()))
    (tmp_path / "here").mkdir()
    words = ("download", made["id"][-6:], "--to", str(tmp_path / "here"))
    done = command(*words)
    done.fails(1, "no identity is set")
    assert list((tmp_path / "here").iterdir()) == []
    files = command.passed(*words, BACKUP_AGE_IDENTITY=str(identity))["files"]
    archive, roles = Path(files["archive"]), Path(files["globals"])
    assert archive.name == f"{made['database']}-{made['id']}.dump"
    assert {stat.S_IMODE(path.stat().st_mode) for path in (archive, roles)} == {0o600}
    listed = subprocess.run(
        [postgres_bin() / "pg_restore", "--list", archive], capture_output=True, text=True, check=True
    )
    assert "TABLE DATA public posts" in listed.stdout
    assert "CREATE ROLE" in roles.read_text()
    assert sorted((tmp_path / "here").iterdir()) == sorted([archive, roles])
    done = command(*words, BACKUP_AGE_IDENTITY=str(identity))
    done.fails(2, "already exists")
    assert command("download", made["id"], "--to", "/nonexistent").status == 2


def test_a_damaged_backup_is_not_written(command: Command, store: LocalStore, tmp_path: Path) -> None:
    made = command.passed("run")
    key = f"{made['database']}/{made['id']}/database.dump.zst"
    store.put(key, store.get(key)[:-1] + b"?")
    done = command("download", made["id"], "--to", str(tmp_path))
    done.fails(1, "NOTHING was written")
    assert not list(tmp_path.glob("*.dump"))


def test_what_promotions_left_is_listed_and_dropped(command: Command, postgres: Postgres, shop: str) -> None:
    made = command.passed("run")["id"]
    into = command.passed("restore", made)["into"]
    # Other tests leave restored databases on the same server.
    listed = [each for each in command.passed("databases") if each["name"].startswith(shop)]
    assert [(each["name"], each["state"]) for each in listed] == [(shop, "production"), (into, "restored")]
    old = command.passed("promote", into, "--yes-i-mean", shop)["kept"]
    kept = {each["name"]: each for each in command.passed("databases") if each["name"].startswith(shop)}
    assert {name: each["state"] for name, each in kept.items()} == {shop: "production", old: "before"}
    assert kept[old]["size_bytes"] > 5_000_000
    done = command("databases")
    assert "promoted at" in done.out
    assert "can be dropped" in done.out
    for name, why in (
        (shop, "is production"),
        ("postgres", "was not left by a restore"),
        ("nonsense", "was not left by a restore"),
    ):
        done = command("databases", "--drop", name, "--yes-i-mean", name)
        done.fails(2, why, "nothing was dropped")
    done = command("databases", "--drop", old, "--dry-run")
    done.passes("can no longer be rolled back")
    assert command("databases", "--drop", old).status == 2  # there is no terminal to confirm it
    assert command("databases", "--drop", old, "--yes-i-mean", shop).status == 2
    assert old in names(postgres, shop)
    # A client is connected to it.
    with psycopg.connect(postgres.url_for(old)):
        assert old not in json.dumps(command.passed("databases", "--drop", old, "--yes-i-mean", old))
    assert names(postgres, shop) == []


def test_a_key_is_created_once_and_never_shown(looking: Command, tmp_path: Path) -> None:
    file = tmp_path / "identity.txt"
    done = looking("keygen", str(file), BACKUP_STORE_URL="")
    assert done.status == 0, done
    text = file.read_text()
    secret = text.splitlines()[-1]
    assert secret.startswith("AGE-SECRET-KEY-")
    assert secret not in done.out + done.err
    public = done.out.strip()
    assert f"# public key: {public}\n" in text
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    plain = pyrage.decrypt(
        pyrage.encrypt(b"x", [pyrage.x25519.Recipient.from_str(public)]),
        [pyrage.x25519.Identity.from_str(secret)],
    )
    assert plain == b"x"
    done = looking("keygen", str(file))
    done.fails(2, "already exists")
    assert file.read_text() == text
    assert looking("keygen", "/nonexistent/identity.txt").status == 2
    settings = {"BACKUP_AGE_RECIPIENTS": public, "BACKUP_AGE_IDENTITY_FILE": str(file)}
    assert wire(BackupSettings.load({**looking.environ, **settings})).identities
