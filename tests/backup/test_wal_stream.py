"""The WAL stream against real servers: what is stored is what the server wrote, whatever happens in between."""

import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

from backup.catalogue.document import decode
from backup.catalogue.signatures import Keyring
from backup.errors import StoreError
from backup.physical import lsn, slot
from backup.physical.archive import Gap
from backup.physical.spans import spans
from backup.physical.timelines import parse_history
from backup.physical.walsender import WalSender
from backup.postgres.dsn import parse
from backup.store import MemoryStore
from stack.programs import SUPPORTED
from stack.servers import Postgres
from tests.backup.walkit import (
    SEGMENT,
    Stream,
    archive_of,
    content,
    listing,
    plain,
    same_as_server,
    standby,
    until,
    without_slot,
    write,
)
from tests.conftest import programs_of

PostgresOf = Callable[[int], Postgres]
KEYS = Keyring.parse("k" * 32)
CAP = {"max_slot_wal_keep_size": "64MB", "max_wal_size": "64MB", "min_wal_size": "32MB"}


@pytest.fixture(params=SUPPORTED, ids=lambda version: f"postgres{version}")
def server(request: pytest.FixtureRequest, postgres_of: PostgresOf) -> Iterator[Postgres]:
    found = postgres_of(request.param)
    with without_slot(found):
        yield found


@pytest.fixture
def newest(postgres_of: PostgresOf) -> Iterator[Postgres]:
    found = postgres_of(SUPPORTED[-1])
    with without_slot(found):
        yield found


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def slot_state(server: Postgres) -> slot.SlotStatus:
    with WalSender.connect(parse(server.url)) as sender:
        return slot.status(sender.query)


def test_what_is_stored_is_what_the_server_wrote(server: Postgres, store: MemoryStore) -> None:
    archive = archive_of(server, KEYS)
    with Stream(server, store, keys=KEYS) as stream:
        end = write(server, 40_000)
        stream.stores(end)
        until(lambda: (slot_state(server).position or 0) >= end, "the slot is confirmed")
        assert stream.measures.problem is None
        until(lambda: stream.measures.lag_bytes() == 0, "all is stored")
    assert same_as_server(server, store, archive, end) >= 2 * SEGMENT
    found = listing(store, archive)
    assert found.strangers == ()
    # Pieces of whole segments are gone; those of the last one remain.
    whole = {each.start for each in found.wal if each.end - each.start == SEGMENT}
    assert len(whole) >= 2
    assert not any(
        lsn.segment_start(each.start, SEGMENT) in whole
        for each in found.wal
        if each.end - each.start < SEGMENT
    )


def test_only_whole_segments_are_locked(newest: Postgres, store: MemoryStore) -> None:
    """A lock on a piece would keep what the whole segment replaces, and the store would fill with both."""
    archive = archive_of(newest)
    with Stream(newest, store, retain_until=lambda now: now + timedelta(days=30)) as stream:
        stream.stores(write(newest, 20_000))
        until(lambda: stream.measures.lag_bytes() == 0, "all is stored")
    whole = {each.stored.key for each in listing(store, archive).wal if each.end - each.start == SEGMENT}
    assert whole
    assert set(store.locked) == whole


def test_what_was_written_just_now_is_stored_within_the_interval(
    newest: Postgres, store: MemoryStore
) -> None:
    with Stream(newest, store, interval=0.2) as stream:
        stream.stores(write(newest))
        began = time.monotonic()
        stream.stores(write(newest))
        assert time.monotonic() - began < 5
        assert (stream.measures.unstored_seconds(time.monotonic()) or 0.0) < 5


def test_a_stop_stores_what_was_received(newest: Postgres, store: MemoryStore) -> None:
    """Even if the next piece would not be due for an hour."""
    with Stream(newest, store, interval=3600) as stream:
        until(lambda: stream.measures.streaming, "it streams")
        end = write(newest, 100)
        until(lambda: (stream.measures.received or 0) >= end, "it is received")
    assert same_as_server(newest, store, archive_of(newest), end) > 0
    assert (slot_state(newest).position or 0) >= end


def test_a_lost_connection_stores_what_was_received(newest: Postgres, store: MemoryStore) -> None:
    with Stream(newest, store, interval=3600) as stream:
        until(lambda: stream.measures.streaming, "it streams")
        end = write(newest, 100)
        until(lambda: (stream.measures.received or 0) >= end, "it is received")
        with psycopg.connect(newest.url, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE active"
            )
        stream.stores(end)
        # And it continues without help.
        end = write(newest, 20_000)
        until(lambda: (stream.measures.stored or 0) >= end - SEGMENT, "it continues")
    assert same_as_server(newest, store, archive_of(newest), end) > 0


def test_it_resumes_where_the_store_ends(newest: Postgres, store: MemoryStore) -> None:
    archive = archive_of(newest)
    for kilobytes in (100, 5_000, 20_000):
        with Stream(newest, store) as stream:
            end = write(newest, kilobytes)
            stream.stores(end)
        assert same_as_server(newest, store, archive, end) > 0
    assert listing(store, archive).gaps == ()


def test_what_two_uploads_left_behind_is_filled(newest: Postgres, store: MemoryStore) -> None:
    """A process died while two uploads were in transit, and only the later one arrived."""
    archive = archive_of(newest)
    with Stream(newest, store) as stream:
        first = write(newest, 1_000)
        stream.stores(first)
    before = set(store.objects)
    with Stream(newest, store) as stream:
        for _ in range(3):
            end = write(newest, 100)
            stream.stores(end)
    added = sorted(set(store.objects) - before)
    assert len(added) >= 3
    del store.objects[added[0]]
    rewind(newest, first)
    with Stream(newest, store) as stream:
        end = write(newest, 100)
        stream.stores(end)
    assert same_as_server(newest, store, archive, end) > 0
    assert listing(store, archive).gaps == ()


def rewind(server: Postgres, position: int) -> None:
    """Move the slot back to where it would be if nothing later had been confirmed."""
    with WalSender.connect(parse(server.url)) as sender:
        stream = sender.stream(lsn.segment_start(position, SEGMENT), 1, slot=slot.NAME)
        stream.confirm(position, position)
        until(lambda: slot_state(server).position == position, "the slot is confirmed")


def test_other_bytes_than_those_stored_are_refused(newest: Postgres, store: MemoryStore) -> None:
    """A server that was restored to an earlier state, or a clone, sends different WAL for the same positions."""
    archive = archive_of(newest)
    with Stream(newest, store) as stream:
        end = write(newest, 100)
        stream.stores(end)
    found = listing(store, archive).wal
    piece = next(each for each in found if each.end - each.start < SEGMENT and each.end >= end)
    sealed = store.objects.pop(piece.stored.key)
    store.objects[archive.wal_key(1, piece.start, piece.end, "0" * 64)] = sealed
    kept = dict(store.objects)
    with Stream(newest, store) as stream:
        until(
            lambda: "that differs from what is stored" in (stream.measures.problem or ""),
            "the divergence is found",
        )
        write(newest, 100)
        assert not stream.measures.stored or stream.measures.stored < end
    assert store.objects == kept


def test_another_cluster_is_refused(postgres_of: PostgresOf, newest: Postgres, store: MemoryStore) -> None:
    with Stream(newest, store) as stream:
        stream.stores(write(newest))
    kept = dict(store.objects)
    with Stream(postgres_of(SUPPORTED[-2]), store) as stream:
        until(lambda: "has the WAL of cluster" in (stream.measures.problem or ""), "it is refused")
    assert store.objects == kept


def test_a_second_sidecar_is_refused(newest: Postgres, store: MemoryStore) -> None:
    with Stream(newest, store) as first:
        first.stores(write(newest))
        with Stream(newest, MemoryStore()) as second:
            until(lambda: "another sidecar streams" in (second.measures.problem or ""), "it is refused")
            assert not second.store.objects  # type: ignore[attr-defined]
        first.stores(write(newest))


def test_a_failing_store_delays_everything_and_loses_nothing(newest: Postgres) -> None:
    failing = False

    def fault(operation: str, key: str) -> None:
        if failing:
            raise StoreError(f"{operation} failed", hint="", operation=operation, transient=True)

    store = MemoryStore(fault=fault)
    archive = archive_of(newest)
    with Stream(newest, store) as stream:
        stream.stores(write(newest))
        failing = True
        end = write(newest, 100_000)
        until(lambda: stream.measures.problem == "put failed", "the problem is known")
        # It still gets keepalive messages, although we read nothing.
        time.sleep(16)
        assert slot_state(newest).active
        assert (stream.measures.unstored_seconds(time.monotonic()) or 0) > 10
        failing = False
        stream.stores(end)
        until(lambda: stream.measures.problem is None, "the problem is over")
    assert same_as_server(newest, store, archive, end) >= 5 * SEGMENT


@pytest.mark.parametrize(
    "names_of_standbys", ["*", "posthub-wal", 'FIRST 1 (a, "posthub-wal")', "ANY 2 (x, POSTHUB-WAL)"]
)
def test_a_synchronous_standby_is_recognised(names_of_standbys: str) -> None:
    assert slot.is_synchronous(names_of_standbys)


@pytest.mark.parametrize("names_of_standbys", ["", "replica", "FIRST 1 (a, b)", "posthub-wal2"])
def test_other_standbys_do_not_concern_us(names_of_standbys: str) -> None:
    assert not slot.is_synchronous(names_of_standbys)


def test_a_server_whose_commits_would_wait_is_refused(tmp_path: Path, store: MemoryStore) -> None:
    with Postgres(tmp_path / "postgres", options={**CAP, "synchronous_standby_names": "*"}) as server:
        with Stream(server, store) as stream:
            until(lambda: "every commit would wait" in (stream.measures.problem or ""), "it is refused")
        assert slot_state(server).state == "none"


def test_a_server_without_a_cap_is_refused_and_keeps_no_slot(tmp_path: Path, store: MemoryStore) -> None:
    with Postgres(tmp_path / "postgres") as server:
        with WalSender.connect(parse(server.url)) as sender:
            sender.create_slot(slot.NAME)
        with Stream(server, store) as stream:
            until(lambda: "max_slot_wal_keep_size is -1" in (stream.measures.problem or ""), "it is refused")
        assert slot_state(server).state == "none"
    assert not store.objects


@pytest.mark.parametrize("version", SUPPORTED)
def test_a_slot_past_its_cap_is_a_gap_and_then_it_resumes(
    version: int, tmp_path: Path, store: MemoryStore
) -> None:
    """16 and 17 accept a lost slot again, say that it is unreserved, and keep nothing."""
    with Postgres(tmp_path / "postgres", programs=programs_of(version), options=CAP) as server:
        archive = archive_of(server, KEYS)
        with Stream(server, store, keys=KEYS) as stream:
            stream.stores(write(server, 1_000))
        stored = stream.measures.stored
        _lose_slot(server)
        with Stream(server, store, keys=KEYS) as stream:
            end = write(server, 1_000)
            stream.stores(end)
            assert stream.measures.gaps == 1
            assert slot_state(server).state == "reserved"
            # The next pause is covered: the new slot really keeps WAL.
        end = write(server, 20_000)
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute("CHECKPOINT")
            connection.execute("CHECKPOINT")
        with Stream(server, store, keys=KEYS) as stream:
            stream.stores(end)
            assert stream.measures.gaps == 0
        found = listing(store, archive)
        gap, _ = decode(Gap, store.get(found.gaps[0].stored.key), "gap", KEYS)
        assert len(found.gaps) == 1
        assert (gap.start, gap.timeline) == (stored, 1)
        stretches = spans(found.wal)
        assert stretches[0].end == stored
        assert stretches[1].end >= end
        assert gap.end == stretches[1].start
        assert content(store, archive, 1, gap.end, end)


@pytest.mark.parametrize("version", [15, 16, 17])
def test_a_slot_that_another_reader_has_revived_is_not_trusted(
    version: int, tmp_path: Path, store: MemoryStore
) -> None:
    """It has a position again, and 16 and 17 call it unreserved while it is read. 18 refuses such readers."""
    with Postgres(tmp_path / "postgres", programs=programs_of(version), options=CAP) as server:
        with Stream(server, store) as stream:
            stream.stores(write(server, 1_000))
        _lose_slot(server)
        end = write(server, 100)
        with WalSender.connect(parse(server.url)) as other:
            reader = other.stream(lsn.segment_start(end, SEGMENT), 1, slot=slot.NAME)
            reader.confirm(end, end)
            until(lambda: slot_state(server).position == end, "the slot has a position again")
            revived = slot_state(server)
            assert revived.is_dead(64 << 20) == (version > 15)
        until(lambda: not slot_state(server).active, "the slot is free")
        assert slot_state(server).state == ("reserved" if version == 15 else "lost")
        with Stream(server, store) as stream:
            stream.stores(write(server, 1_000))
            assert slot_state(server).state == "reserved"
        _write_past_checkpoints(server)
        with Stream(server, store) as stream:
            stream.stores(write(server, 1_000))
            assert stream.measures.gaps == 0


def _lose_slot(server: Postgres) -> None:
    for _ in range(4):
        write(server, 48_000)
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute("CHECKPOINT")
    assert slot_state(server).state == "lost"


def _write_past_checkpoints(server: Postgres) -> None:
    """More than the server keeps without the slot, and less than the slot's limit."""
    with psycopg.connect(server.url, autocommit=True) as connection:
        for _ in range(2):
            write(server, 20_000)
            connection.execute("CHECKPOINT")


def test_a_dropped_slot_is_recreated_without_a_gap(newest: Postgres, store: MemoryStore) -> None:
    archive = archive_of(newest)
    with Stream(newest, store) as stream:
        stream.stores(write(newest, 100))
    with WalSender.connect(parse(newest.url)) as sender:
        assert slot.release(sender)
        assert not slot.release(sender)
    with Stream(newest, store) as stream:
        end = write(newest, 100)
        stream.stores(end)
    assert listing(store, archive).gaps == ()
    assert same_as_server(newest, store, archive, end) > 0


def test_a_promotion_is_followed(newest: Postgres, store: MemoryStore) -> None:
    """The standby that we stream from is promoted: its history and its new timeline are stored, and nothing is missing."""
    with standby(newest) as copy, without_slot(copy):
        archive = archive_of(copy)
        with Stream(copy, store) as stream:
            stream.stores(write(newest, 1_000))
            with psycopg.connect(copy.url, autocommit=True) as connection:
                connection.execute("SELECT pg_promote()")
            until(lambda: stream.measures.timeline == 2, "the new timeline is streamed")
            end = write(copy, 1_000)
            stream.stores(end)
        found = listing(store, archive)
        assert [each.timeline for each in found.histories] == [2]
        forks = parse_history(plain(store, found.histories[0].stored.key), 2, "history")
        stretches = spans(found.wal)
        assert [span.timeline for span in stretches] == [1, 2]
        assert stretches[0].end == forks[0].position
        assert stretches[1].start == lsn.segment_start(forks[0].position, SEGMENT)
        assert same_as_server(copy, store, archive, end, timeline=2) > 0
        assert found.gaps == ()
        # The same after a restart.
        with Stream(copy, store) as stream:
            end = write(copy, 1_000)
            stream.stores(end)
        assert listing(store, archive).gaps == ()


def test_a_promotion_while_no_one_streams_is_followed(newest: Postgres, store: MemoryStore) -> None:
    with standby(newest) as copy, without_slot(copy):
        archive = archive_of(copy)
        with Stream(copy, store) as stream:
            stream.stores(write(newest, 1_000))
        with psycopg.connect(copy.url, autocommit=True) as connection:
            connection.execute("SELECT pg_promote()")
        with Stream(copy, store) as stream:
            until(lambda: stream.measures.timeline == 2, "the new timeline is streamed")
            end = write(copy, 1_000)
            stream.stores(end)
        found = listing(store, archive)
        assert [span.timeline for span in spans(found.wal)] == [1, 2]
        assert found.gaps == ()
