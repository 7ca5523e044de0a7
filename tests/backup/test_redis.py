"""Redis: the RDB as a replica receives it, proven by loading it."""

import dataclasses
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from backup.catalogue.manifest import Keyspace, Manifest
from backup.errors import BusyError, DumpError
from backup.pipeline import Source, transfer
from backup.redis.dsn import parse
from backup.redis.engine import changes
from backup.redis.lock import KEY, LIFE_SECONDS, KeyLock, key_lock
from backup.redis.product import Signature, signature
from backup.redis.rdb import beginning
from backup.replication.merged import read
from backup.run import run
from backup.targets import RedisTarget
from backup.verify import verify
from backup.verify.redis import _compare
from backup.wiring import Wiring
from stack.servers import Redis
from stack.wait import wait_for
from tests.backup.conftest import Wire


@pytest.fixture
def client(busy_redis: Redis) -> Iterator["redis.Redis"]:
    client = redis.Redis.from_url(busy_redis.url)
    client.flushall()
    with client.pipeline() as pipe:
        for number in range(3000):
            pipe.set(f"key:{number}", "x" * 200)
        pipe.lpush("list", *range(500))
        pipe.execute()
    with redis.Redis.from_url(busy_redis.url.replace("/0", "/3")) as third:
        third.hset("hash", mapping={"a": 1, "b": 2})
        third.set("soon", "gone", ex=1)
    with redis.Redis.from_url(busy_redis.url.replace("/0", "/1999")) as last:
        last.set("key", "x")
    yield client
    client.flushall()
    client.close()


@pytest.fixture
def wiring(wired: Wire, busy_redis: Redis) -> Wiring:
    made = wired(DATABASE_URL="", BACKUP_REDIS_URLS=f"cache={busy_redis.url}")
    return dataclasses.replace(made)


def proven(wiring: Wiring, made: Manifest) -> None:
    entry = read(wiring).history(made.database).find(made.id)
    assert entry is not None
    report = verify(wiring, entry)
    assert report.differences == ()


def test_a_backup_passes(wiring: Wiring, client: "redis.Redis") -> None:
    made = run(wiring, wiring.targets[0])
    assert made.kind == "redis"
    # The lock is a separate key.
    assert [(space.number, space.keys) for space in made.keyspaces] == [(0, 3002), (3, 2), (1999, 1)]
    assert [stored.name for stored in made.objects] == ["dump.rdb.zst"]
    assert client.get(KEY) is None
    proven(wiring, made)


@pytest.mark.parametrize("diskless", ["yes", "no"])
def test_both_ways_of_sending(wiring: Wiring, client: "redis.Redis", diskless: str) -> None:
    client.config_set("repl-diskless-sync", diskless)
    try:
        proven(wiring, run(wiring, wiring.targets[0]))
    finally:
        client.config_set("repl-diskless-sync", "yes")


def test_a_server_that_is_written_to(wiring: Wiring, client: "redis.Redis") -> None:
    done = threading.Event()

    def write() -> None:
        number = 0
        while not done.is_set():
            number += 1
            client.set(f"new:{number}", "x")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        made = run(wiring, wiring.targets[0])
    finally:
        done.set()
        writer.join()
    proven(wiring, made)


def test_keys_that_come_and_go_during_the_transfer(
    wiring: Wiring, client: "redis.Redis", monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty queue has no key. So a broker has other keys at the moment of the RDB than before and after it."""
    queues, number, real = {f"queue:{n}": "x" for n in range(5)}, client.dbsize(), transfer

    def among_others(*arguments: Any, **options: Any) -> Any:
        client.mset(queues)
        stored = real(*arguments, **options)
        client.delete(*queues)
        return stored

    monkeypatch.setattr("backup.redis.engine.transfer", among_others)
    made = run(wiring, wiring.targets[0])
    assert [made.keyspaces[0].keys, made.keyspaces[0].keys_after] == [number + 1] * 2
    assert made.keys_changed >= 10
    proven(wiring, made)


def test_only_changes_in_between_excuse_other_numbers_of_keys() -> None:
    space = Keyspace(number=0, keys=10, keys_after=14)
    loaded = {
        changed: [n for n in range(30) if not _compare(0, space, changed, n)] for changed in (0, 4, 6, 9)
    }
    assert loaded == {0: [*range(10, 15)], 4: [*range(10, 15)], 6: [*range(9, 16)], 9: [*range(8, 17)]}
    assert [n for n in range(9) if not _compare(1, None, 4, n)] == [0, 1, 2]


def test_changes_between_two_infos() -> None:
    before = {"rdb_changes_since_last_save": 5, "rdb_last_save_time": 1, "total_commands_processed": 100}
    after = {
        "rdb_changes_since_last_save": 8,
        "rdb_last_save_time": 1,
        "total_commands_processed": 150,
        "expired_keys": 2,
    }
    assert changes(before, after) == 5
    saved = {**after, "rdb_changes_since_last_save": 1, "rdb_last_save_time": 2}
    assert changes(before, saved) == 52


def test_lost_keys_are_named(wiring: Wiring, client: "redis.Redis") -> None:
    made = run(wiring, wiring.targets[0])
    spaces = (made.keyspaces[0].model_copy(update={"keys": 9999, "keys_after": 9999}), *made.keyspaces[1:])
    key = f"cache/{made.id}/manifest.json"
    wiring.store.put(key, made.model_copy(update={"keyspaces": spaces}).encode())
    entry = read(wiring).history("cache").find(made.id)
    assert entry is not None
    [difference] = verify(wiring, entry).differences
    assert (difference.kind, difference.object) == ("keys", "db0")
    assert "9999" in difference.expected


def test_one_run_at_a_time(wiring: Wiring, client: "redis.Redis") -> None:
    target = wiring.targets[0]
    assert target.kind == "redis"
    with key_lock(target.address) as lock:
        with pytest.raises(BusyError):
            run(wiring, target)
        client.delete(KEY)
        with pytest.raises(DumpError, match="lost"):
            lock.confirm()
    run(wiring, target)


@pytest.mark.parametrize(
    ("rights", "locked"),
    [
        ("", False),
        ("+set", False),
        ("+set +get", False),
        ("+set +get +del", False),
        ("+set +get +del +expire", True),
    ],
)
def test_a_lock_that_could_not_be_confirmed_is_not_taken(
    busy_redis: Redis, client: "redis.Redis", rights: str, locked: bool
) -> None:
    """Otherwise it would seem lost at the end of the run, or expire during a long one."""
    client.execute_command(
        "ACL", "SETUSER", "bk", "reset", "on", ">longenough", f"~{KEY}", "+ping", *rights.split()
    )
    address = parse(busy_redis.url.replace("redis://", "redis://bk:longenough@"))
    try:
        with key_lock(address) as lock:
            assert isinstance(lock, KeyLock) is locked
            lock.confirm()
            assert not locked or client.exists(KEY)
        wait_for(
            lambda: not client.exists(KEY), timeout=20, what="the end of the lock", hint="see its expiry"
        )
    finally:
        client.acl_deluser("bk")


def test_the_lock_of_another_run_is_neither_ours_nor_removed(wiring: Wiring, client: "redis.Redis") -> None:
    target = wiring.targets[0]
    assert isinstance(target, RedisTarget)
    with key_lock(target.address) as lock:
        client.set(KEY, "another")
        with pytest.raises(DumpError, match="lost"):
            lock.confirm()
    assert client.get(KEY) == b"another"
    client.delete(KEY)


def test_the_lock_outlives_its_holder_by_a_minute_at_most(
    wiring: Wiring, client: "redis.Redis", monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not a holder that lives: it is renewed several times in its life."""
    target = wiring.targets[0]
    assert isinstance(target, RedisTarget)
    with key_lock(target.address):
        assert 0 < client.ttl(KEY) <= LIFE_SECONDS
    monkeypatch.setattr("backup.redis.lock.LIFE_SECONDS", 2)
    with key_lock(target.address) as lock:
        wait_for(lambda: client.pttl(KEY) <= 1_700, timeout=10, what="the lock ages", hint="")
        wait_for(lambda: client.pttl(KEY) > 1_700, timeout=10, what="the lock is renewed", hint="")
        lock.confirm()


def test_a_server_that_disconnects_during_the_transfer(wired: Wire, tmp_path: Path) -> None:
    with Redis(tmp_path / "r", options={"repl-diskless-sync-delay": "0"}) as server:
        with redis.Redis.from_url(server.url) as client, client.pipeline() as pipe:
            for number in range(20000):
                pipe.set(f"key:{number}", bytes(500))
            pipe.execute()
        wiring = wired(DATABASE_URL="", BACKUP_REDIS_URLS=f"cache={server.url}")
        with pytest.raises(DumpError):
            run(wiring, wiring.targets[0], lambda _: server.kill())
    assert [info.key for info in wiring.store.walk() if "attempts" not in info.key] == []


def test_doctor_reads_a_signature_that_comes_byte_by_byte() -> None:
    class Slow(Source):
        left = b"REDIS0010\xfa\tredis-ver\x067.0.15"

        def read(self) -> bytes:
            first, self.left = self.left[:1], self.left[1:]
            return first

        def close(self) -> None:
            pass

    assert signature(beginning(Slow())) == Signature("redis", 10)
