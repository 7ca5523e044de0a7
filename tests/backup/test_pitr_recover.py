"""Recovery to every kind of target with real servers, and everything that must not be promoted."""

import os
import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest

from backup import landlock
from backup.cancellation import never
from backup.errors import RecoveryError, VerificationError
from backup.load.throwaway import SERVER, log_of, private_folder
from backup.physical import cut, lsn, records, recover, targets, waldump
from backup.physical.targets import AtMark, AtPosition, AtTime
from backup.programs import Programs
from backup.restore.folder import matters
from backup.restore.point import roll_back_prepared
from stack.programs import SUPPORTED
from tests.backup.pitrkit import LEDGER, SEGMENT, Primary, feed, recovered, unpacked
from tests.conftest import programs_of

# The number of random targets. docs/pitr.md has the result of a run with 50.
RANDOM_TARGETS = int(os.environ.get("RANDOM_TARGETS", "6"))


@pytest.fixture(scope="module", params=SUPPORTED, ids=lambda version: f"postgres{version}")
def primary(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Primary]:
    with Primary(tmp_path_factory.mktemp(f"pg{request.param}"), programs_of(request.param)) as server:
        with server.session() as connection:
            connection.execute(LEDGER)
        yield server


@pytest.fixture(scope="module")
def base(primary: Primary, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return primary.base(tmp_path_factory.mktemp("base") / "base")


def rows(server: recover.Paused) -> int:
    with psycopg.connect(server.address.named("posthub").conninfo) as connection:
        row = connection.execute("SELECT count(*) FROM ledger").fetchone()
    assert row is not None
    return int(row[0])


def written(primary: Primary, count: int) -> tuple[int, datetime, int]:
    """Commit rows one by one; returns the rows so far, the time of the last one, and the position after it."""
    with primary.session() as connection:
        for _ in range(count):
            connection.execute("INSERT INTO ledger SELECT coalesce(max(n), 0) + 1 FROM ledger")
        row = connection.execute(
            "SELECT count(*), clock_timestamp(), pg_current_wal_insert_lsn()::text FROM ledger"
        ).fetchone()
    assert row is not None
    return row[0], row[1], lsn.parse(row[2])


@contextmanager
def at(
    primary: Primary, base: Path, goal: AtTime | AtPosition | AtMark, parent: Path
) -> Iterator[recover.Paused]:
    with recovered(primary, base, targets.settings(goal, 1), parent) as server:
        yield server


def test_each_kind_of_target_gives_exactly_its_rows(primary: Primary, base: Path, tmp_path: Path) -> None:
    wanted, moment, position = written(primary, 20)
    with primary.session() as connection:
        connection.execute("SELECT pg_create_restore_point('before the mistake')")
    written(primary, 20)
    primary.switch()
    for goal in (AtTime(moment), AtPosition(position), AtMark("before the mistake")):
        with at(primary, base, goal, tmp_path) as server:
            assert rows(server) == wanted, goal
            assert server.reached.moment is not None
            assert server.reached.moment <= moment
    assert list(tmp_path.iterdir()) == []


def test_a_noted_position_replays_no_record_too_many(primary: Primary, base: Path, tmp_path: Path) -> None:
    """By default, PostgreSQL would replay the record that starts there: here, a commit with its row."""
    with primary.session() as connection:
        connection.execute("BEGIN")
        connection.execute("INSERT INTO ledger VALUES (1000000)")
        row = connection.execute(
            "SELECT pg_current_wal_insert_lsn()::text, count(*) - 1 FROM ledger"
        ).fetchone()
        connection.execute("COMMIT")
    assert row is not None
    primary.switch()
    with at(primary, base, AtPosition(lsn.parse(row[0])), tmp_path) as server:
        assert rows(server) == row[1]
    with at(primary, base, AtPosition(lsn.parse(row[0]), inclusive=True), tmp_path) as server:
        assert rows(server) == row[1] + 1
    with primary.session() as connection:
        connection.execute("DELETE FROM ledger WHERE n = 1000000")


def test_a_paused_server_continues_to_the_end(primary: Primary, base: Path, tmp_path: Path) -> None:
    """One unpacked base, two proofs: first at one place, then at the last commit of the log."""
    early, _, position = written(primary, 5)
    late, _, _ = written(primary, 5)
    end = primary.switch()
    programs = Programs(primary.programs)
    with unpacked(base, tmp_path) as folder:
        source = feed(folder, primary.wal)
        for goal, count in ((AtPosition(position), early), (AtPosition(end), late)):
            with recover.paused(
                programs, folder, "posthub", source, targets.settings(goal, 1), options={}, check=never
            ) as server:
                assert rows(server) == count
        server_position = server.reached.position
    assert server_position <= end


def test_a_missing_segment_is_named_and_nothing_is_promoted(
    primary: Primary, base: Path, tmp_path: Path
) -> None:
    """The command's exit code 1 would have made the server mistake the hole for the end, and leave recovery."""
    _, _, position = written(primary, 5)
    name = lsn.segment_name(1, lsn.segment_of(position, SEGMENT), SEGMENT)
    primary.switch()
    written(primary, 5)
    end = primary.switch()
    assert position < end
    with (
        pytest.raises(VerificationError, match=f"{name} is missing from the store"),
        recovered(primary, base, targets.settings(AtPosition(end), 1), tmp_path, without=[name]),
    ):
        raise AssertionError("it was promoted")


def test_a_target_after_the_end_is_refused(primary: Primary, base: Path, tmp_path: Path) -> None:
    written(primary, 1)
    end = primary.switch()
    with (
        pytest.raises(RecoveryError, match="the WAL ends, or is damaged, before the target"),
        at(primary, base, AtPosition(end + (1 << 30)), tmp_path),
    ):
        raise AssertionError("it was promoted")


def test_an_unknown_hole_in_the_store_is_not_the_end(primary: Primary, base: Path, tmp_path: Path) -> None:
    """Whatever the restore_command returns, a server with a target does not leave recovery without reaching it."""
    _, _, position = written(primary, 5)
    hole = lsn.segment_name(1, lsn.segment_of(position, SEGMENT), SEGMENT)
    primary.switch()
    written(primary, 5)
    end = primary.switch()
    (primary.wal / hole).rename(tmp_path / "aside")
    try:
        with (
            pytest.raises(RecoveryError, match="the WAL ends, or is damaged, before the target"),
            at(primary, base, AtPosition(end), tmp_path),
        ):
            raise AssertionError("it was promoted")
    finally:
        (tmp_path / "aside").rename(primary.wal / hole)


@pytest.mark.parametrize("primary", [SUPPORTED[-1]], indirect=True, ids=["newest"])
@pytest.mark.parametrize(
    "goal", [AtTime(datetime(2999, 1, 1, tzinfo=UTC)), AtMark("never made")], ids=["time", "mark"]
)
def test_a_time_or_a_mark_that_is_never_reached_is_refused(
    primary: Primary, base: Path, tmp_path: Path, goal: AtTime | AtMark
) -> None:
    written(primary, 1)
    primary.switch()
    with pytest.raises(RecoveryError) as failed, at(primary, base, goal, tmp_path):
        raise AssertionError("it was promoted")
    assert failed.value.message == "the WAL ends, or is damaged, before the target"
    assert "--at latest" in failed.value.hint


@pytest.mark.parametrize("primary", [SUPPORTED[-1]], indirect=True, ids=["newest"])
def test_a_target_before_the_end_of_a_busy_base_backup_is_refused(primary: Primary, tmp_path: Path) -> None:
    """On an idle server, PostgreSQL itself would silently stop at the base backup's end instead."""
    written(primary, 3)
    with primary.session() as connection:
        connection.execute("SELECT pg_backup_start('busy', fast => true)")
        _, moment, position = written(primary, 3)
        written(primary, 3)
        with unpacked_from(primary, tmp_path) as folder:
            row = connection.execute(
                "SELECT lsn::text, labelfile FROM pg_backup_stop(wait_for_archive => false)"
            ).fetchone()
            assert row is not None
            (folder / recover.DATA / "backup_label").write_text(row[1])
            written(primary, 1)
            primary.switch()
            for goal in (AtPosition(position), AtTime(moment)):
                assert position < lsn.parse(row[0])
                with (
                    pytest.raises(RecoveryError, match="the target is before the end of the base backup"),
                    recover.paused(
                        Programs(primary.programs),
                        folder,
                        "posthub",
                        feed(folder, primary.wal),
                        targets.settings(goal, 1),
                        options={},
                        check=never,
                    ),
                ):
                    raise AssertionError("it was promoted")


@contextmanager
def unpacked_from(primary: Primary, parent: Path) -> Iterator[Path]:
    """A copy of the running server's data in a private folder."""
    with private_folder(parent) as folder:
        shutil.copytree(
            primary.data,
            folder / recover.DATA,
            ignore=shutil.ignore_patterns("postmaster.*", "pg_replslot", "[0-9A-F]" * 24),
        )
        (folder / recover.DATA / "pg_replslot").mkdir()
        yield folder


@pytest.mark.parametrize("primary", [SUPPORTED[-1]], indirect=True, ids=["newest"])
def test_a_collation_of_another_version_is_named(primary: Primary, base: Path, tmp_path: Path) -> None:
    """Indexes of text may be out of order for programs other than the original's."""
    change = "UPDATE pg_database SET datcollversion = %s WHERE datname = 'posthub'"
    with primary.session("postgres") as connection:
        row = connection.execute(
            "SELECT datcollversion FROM pg_database WHERE datname = 'posthub'"
        ).fetchone()
        assert row is not None
        connection.execute(change, ["0.1"])
        place = connection.execute("SELECT pg_current_wal_insert_lsn()::text").fetchone()
        connection.execute(change, [row[0]])
    assert place is not None
    primary.switch()
    with at(primary, base, AtPosition(lsn.parse(place[0])), tmp_path) as server:
        (note,) = matters(server)
    assert "the collation of posthub has version 0.1, and " in note


@pytest.mark.parametrize("primary", [SUPPORTED[-1]], indirect=True, ids=["newest"])
def test_a_prepared_transaction_does_not_keep_its_locks_in_the_recovered_database(
    primary: Primary, base: Path, tmp_path: Path
) -> None:
    """Not even leaving recovery ends it: a dump of the recovered database would wait forever."""
    wanted, _, _ = written(primary, 1)
    with primary.session() as connection:
        connection.execute("BEGIN")
        connection.execute("LOCK TABLE ledger IN ACCESS EXCLUSIVE MODE")
        connection.execute("INSERT INTO ledger VALUES (2000000)")
        connection.execute("PREPARE TRANSACTION 'half done'")
        row = connection.execute("SELECT pg_current_wal_insert_lsn()::text").fetchone()
        connection.execute("ROLLBACK PREPARED 'half done'")
    assert row is not None
    primary.switch()
    with at(primary, base, AtPosition(lsn.parse(row[0])), tmp_path) as server:
        server.promote()
        notes = matters(server)
        assert any("the prepared transaction half done of posthub is open" in note for note in notes), notes
        notes = roll_back_prepared(server)
        assert notes == [
            "the prepared transaction half done of posthub was open at the target, and is not included"
        ]
        assert rows(server) == wanted
        assert roll_back_prepared(server) == []


def test_a_damaged_segment_ends_the_recovery_and_nothing_is_promoted(
    primary: Primary, base: Path, tmp_path: Path
) -> None:
    written(primary, 20)
    begin = lsn.parse(str(primary.value("SELECT pg_current_wal_insert_lsn()")))
    name = lsn.segment_name(1, lsn.segment_of(begin, SEGMENT), SEGMENT)
    written(primary, 20)
    end = primary.switch()
    file = primary.wal / name
    whole = file.read_bytes()
    place = begin % SEGMENT + 30
    file.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
    try:
        with (
            pytest.raises(RecoveryError, match="the WAL ends, or is damaged, before the target"),
            at(primary, base, AtPosition(end), tmp_path),
        ):
            raise AssertionError("it was promoted")
    finally:
        file.write_bytes(whole)


def test_a_server_that_lacks_settings_does_not_count_as_having_arrived(
    primary: Primary, tmp_path: Path
) -> None:
    """It pauses in the middle of the log when production has raised a setting since the base backup."""
    base = primary.base(tmp_path / "base")
    before, _, _ = written(primary, 3)
    with primary.session() as connection:
        connection.execute("ALTER SYSTEM SET max_connections = 140")
    primary.stop()
    primary.start()
    wanted, _, position = written(primary, 3)
    assert wanted == before + 3
    primary.switch()
    with at(primary, base, AtPosition(position), tmp_path) as server:
        assert rows(server) == wanted


def test_the_mark_of_a_snapshot_is_found_in_the_printed_log(primary: Primary, tmp_path: Path) -> None:
    """The last commit that a snapshot sees, by the programs of each version."""
    written(primary, 5)
    with primary.session() as connection:
        row = connection.execute(
            "SELECT pg_current_snapshot()::text, pg_current_wal_insert_lsn()::text, count(*) FROM ledger"
        ).fetchone()
    assert row is not None
    written(primary, 5)
    name = lsn.segment_name(1, lsn.segment_of(lsn.parse(row[1]), SEGMENT), SEGMENT)
    primary.switch()
    printed = waldump.printed(Programs(primary.programs), primary.wal, [name], tmp_path, never)
    found = cut.place(cut.parse_snapshot(row[0]), records.endings(printed), lsn.parse(row[1]))
    assert found is not None
    assert found.last is not None
    assert found.last < found.limit <= lsn.parse(row[1])


@pytest.mark.parametrize("primary", [SUPPORTED[-1]], indirect=True, ids=["newest"])
@pytest.mark.skipif(not landlock.version(), reason="this kernel has no Landlock")
def test_code_in_a_base_backup_reaches_only_the_servers_own_folder(
    primary: Primary, base: Path, tmp_path: Path
) -> None:
    """The dumps that are compared with the server, the log that it replays and its messages are next to its folder, not in it."""
    _, _, position = written(primary, 1)
    primary.switch()
    outside = tmp_path / "outside"
    outside.write_text("as it was")
    with unpacked(base, tmp_path) as folder:
        (folder / "dump").write_text("as it was")
        with recover.paused(
            Programs(primary.programs),
            folder,
            "posthub",
            feed(folder, primary.wal),
            targets.settings(AtPosition(position), 1),
            options={},
            check=never,
        ) as server:
            [given] = folder.glob("feed-*")
            with psycopg.connect(server.address.conninfo, autocommit=True) as connection:
                for path in (
                    outside,
                    folder / "dump",
                    given / "take.sh",
                    given / "new",
                    log_of(folder / SERVER),
                ):
                    with pytest.raises(psycopg.Error):
                        connection.execute(f"COPY (SELECT 'changed') TO PROGRAM 'cat > {path}'")
                connection.execute(f"COPY (SELECT 1) TO PROGRAM 'ln -s {outside} {folder / SERVER}/link'")
        assert "database system is ready" in log_of(folder / SERVER).read_text()
        assert (folder / "dump").read_text() == outside.read_text() == "as it was"


@pytest.mark.parametrize("primary", [SUPPORTED[-1]], indirect=True, ids=["newest"])
def test_a_data_folder_that_was_replaced_is_not_put_into_place(
    primary: Primary, base: Path, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    with unpacked(base, tmp_path) as folder:
        (folder / recover.DATA).rename(folder / "data")
        (folder / recover.DATA).symlink_to(elsewhere)
        with pytest.raises(RecoveryError, match="has replaced its own data folder"):
            recover.settle(folder, never)
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize("primary", [SUPPORTED[-1]], indirect=True, ids=["newest"])
def test_originals_are_kept_aside(primary: Primary, base: Path, tmp_path: Path) -> None:
    _, _, position = written(primary, 1)
    primary.switch()
    programs = Programs(primary.programs)
    with unpacked(base, tmp_path) as folder:
        before = (folder / recover.DATA / "pg_hba.conf").read_bytes()
        with recover.paused(
            programs,
            folder,
            "posthub",
            feed(folder, primary.wal),
            targets.settings(AtPosition(position), 1),
            options={},
            check=never,
        ) as server:
            assert (folder / recover.DATA / "pg_hba.conf").read_bytes() != before
            server.promote()
            with psycopg.connect(server.address.conninfo, autocommit=True) as connection:
                connection.execute("CREATE TABLE writes (n int)")
        assert "database system is shut down" in log_of(folder / SERVER).read_text()
        recover.settle(folder, never)
        assert (folder / recover.DATA / "pg_hba.conf").read_bytes() == before


@pytest.mark.timeout(300 + 30 * RANDOM_TARGETS)
@pytest.mark.parametrize("primary", [SUPPORTED[-1]], indirect=True, ids=["newest"])
def test_random_targets_give_exactly_their_rows(primary: Primary, tmp_path: Path) -> None:
    """Times, positions and marks at random, one after the other over the same data."""
    chance = random.Random(29)
    base = primary.base(tmp_path / "base")
    wanted: list[tuple[AtTime | AtPosition | AtMark, int]] = []
    for number in range(RANDOM_TARGETS):
        count, moment, position = written(primary, chance.randint(1, 4))
        name = f"random {number}"
        with primary.session() as connection:
            connection.execute("SELECT pg_create_restore_point(%s)", [name])
        goals: list[AtTime | AtPosition | AtMark] = [AtTime(moment), AtPosition(position), AtMark(name)]
        wanted.append((chance.choice(goals), count))
    written(primary, 1)
    primary.switch()
    source = Programs(primary.programs)
    with unpacked(base, tmp_path) as folder:
        opened = feed(folder, primary.wal)
        for goal, count in wanted:
            with recover.paused(
                source, folder, "posthub", opened, targets.settings(goal, 1), options={}, check=never
            ) as server:
                assert rows(server) == count, goal
