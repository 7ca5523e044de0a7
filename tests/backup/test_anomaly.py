"""Backups unlike those before."""

from datetime import UTC, datetime

from backup.catalogue.manifest import Keyspace, Manifest, Server, StoredObject, Table
from backup.policy.anomaly import Limits, anomalies

NOW = datetime(2026, 11, 23, tzinfo=UTC)


def manifest(size: int = 1000, **rows: int) -> Manifest:
    stored = StoredObject(name="a", role="archive", raw_bytes=size, stored_bytes=size, sha256="")
    return Manifest(
        id="20261123T000000Z-000000",
        database="d",
        kind="postgres",
        taken=NOW,
        started=NOW,
        finished=NOW,
        tool="",
        client="",
        server=Server(version="18", version_number=180000),
        objects=(stored,),
        tables=tuple(Table(schema="public", name=name, rows=count) for name, count in rows.items()),
    )


def test_a_usual_backup_has_no_anomaly() -> None:
    before = [manifest(1000 + n, posts=500 + n) for n in range(5)]
    assert anomalies(manifest(900, posts=400), before, Limits()) == ()


def test_a_size_that_falls_or_rises() -> None:
    before = [manifest(1000) for _ in range(3)]
    assert anomalies(manifest(499), before, Limits()) == ("size in bytes fell to 499 from a median of 1000",)
    assert anomalies(manifest(5001), before, Limits()) == (
        "size in bytes rose to 5001 from a median of 1000",
    )
    for at_a_limit in (500, 5000):
        assert anomalies(manifest(at_a_limit), before, Limits()) == ()


def test_growth_from_nothing_is_not_judged() -> None:
    assert anomalies(manifest(10), [manifest(0)] * 3, Limits()) == ()


def test_tables_are_judged_from_the_smallest_number_of_rows_on() -> None:
    assert anomalies(manifest(few=0), [manifest(few=99)] * 3, Limits()) == ()
    found = anomalies(manifest(enough=0), [manifest(enough=100)] * 3, Limits())
    assert found == ("rows of public.enough fell to 0 from a median of 100",)


def test_keys_of_redis_are_judged_by_database() -> None:
    def of_redis(keys: int) -> Manifest:
        spaces = (Keyspace(number=2, keys=keys, keys_after=keys),)
        return manifest().model_copy(update={"kind": "redis", "keyspaces": spaces})

    found = anomalies(of_redis(10), [of_redis(1000)] * 3, Limits())
    assert found == ("rows of db2 fell to 10 from a median of 1000",)


def test_rows_that_disappear() -> None:
    before = [manifest(posts=1000, users=200, tiny=5) for _ in range(4)]
    found = anomalies(manifest(posts=10, tiny=0), before, Limits())
    assert found == (
        "rows of public.posts fell to 10 from a median of 1000",
        "rows of public.users fell to 0 from a median of 200",
    )


def test_too_little_history_judges_nothing() -> None:
    assert anomalies(manifest(1), [manifest(1000)] * 2, Limits()) == ()


def test_a_new_normal_becomes_normal() -> None:
    before = [manifest(1000)] * 7 + [manifest(100)] * 4
    assert anomalies(manifest(100), before, Limits()) == ()


def test_a_table_that_is_new_is_not_judged() -> None:
    before = [manifest(posts=1000)] * 3
    assert anomalies(manifest(posts=1000, events=10**6), before, Limits()) == ()


def test_one_unusual_backup_does_not_move_what_is_usual() -> None:
    before = [manifest(1000), manifest(1000), manifest(10), manifest(1000)]
    assert anomalies(manifest(300), before, Limits()) == ("size in bytes fell to 300 from a median of 1000",)


def test_backups_with_another_exclusion_are_not_compared() -> None:
    before = [manifest(1000)] * 3
    for left_out in ({"excluded_tables": ("log",)}, {"excluded_rows": ("log",)}, {"kind": "redis"}):
        assert anomalies(manifest(1).model_copy(update=left_out), before, Limits()) == ()
