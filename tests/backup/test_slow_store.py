"""A slow store does not keep a snapshot and its locks open: encrypted parts wait on the disk."""

import threading
from dataclasses import replace
from pathlib import Path

import psycopg
import pyrage
import pytest

from backup.doctor import examine
from backup.pipeline import sink as sinks
from backup.pipeline.sink import PartSink
from backup.pipeline.spill import Spill
from backup.run import run
from backup.store import MemoryStore, PartSizes, RetryingStore, RetryPolicy
from backup.verify import verify
from stack.servers import Postgres
from stack.wait import wait_for
from tests.backup.conftest import NewDatabase, Wire

PATIENCE = 60.0
# Text that does not compress, and many parts.
ROWS = (
    "CREATE TABLE t (body text);"
    " INSERT INTO t SELECT string_agg(md5(random()::text), '') FROM generate_series(1, 20000) i GROUP BY i % 200"
)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> PartSizes:
    """Parts of 20 kB, of which three fit into memory."""
    monkeypatch.setattr(sinks, "BUDGET", 60_000)
    return PartSizes(first=20_000)


class Gate:
    """A store that holds parts back until they are released."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.reached = threading.Event()
        self.store = MemoryStore(fault=self._wait)

    def _wait(self, operation: str, key: str) -> None:
        if operation == "part" and "database.dump" in key:
            self.reached.set()
            assert self.open.wait(PATIENCE)


def test_the_snapshot_ends_with_the_dump(
    wired: Wire, postgres: Postgres, new_database: NewDatabase, tmp_path: Path, small: PartSizes
) -> None:
    name, gate, identity = new_database(ROWS, "slow"), Gate(), pyrage.x25519.Identity.generate()
    wiring = wired(
        DATABASE_URL=postgres.url_for(name),
        BACKUP_AGE_RECIPIENTS=str(identity.to_public()),
        BACKUP_AGE_IDENTITY=str(identity),
        BACKUP_WORK_DIR=str(tmp_path),
        BACKUP_WORK_DIR_FLOOR="0",
    )
    packing = replace(wiring.packing, sizes=small)
    wiring = replace(wiring, store=RetryingStore(gate.store, RetryPolicy(attempts=1)), packing=packing)
    made = []
    running = threading.Thread(target=lambda: made.append(run(wiring, wiring.targets[0])), daemon=True)
    with psycopg.connect(postgres.url, autocommit=True) as watcher:

        def sessions() -> set[str]:
            rows = watcher.execute(
                "SELECT application_name FROM pg_stat_activity WHERE datname = %s", [name]
            ).fetchall()
            return {row[0] for row in rows}

        running.start()
        assert gate.reached.wait(PATIENCE), "the dump has not begun: the run failed"
        # No part is in the store yet, and still the dump ends.
        wait_for(
            lambda: "posthub-backup-snapshot" not in sessions() and "pg_dump" not in sessions(),
            timeout=PATIENCE,
            what="the end of the snapshot",
            hint="it waits for the store",
        )
        assert "posthub-backup-lock" in sessions()
    assert not any("database.dump" in key for key in gate.store.objects)
    gate.open.set()
    running.join(PATIENCE)
    assert made
    assert made[0].stored_bytes > 10 * 20_000
    # The file has no name, so nothing is left.
    assert list(tmp_path.glob("tmp*")) == []
    [entry] = wiring.reader().read(wiring.clock()).history(name).backups
    assert verify(wiring, entry).ok


def test_parts_of_memory_and_disk_make_the_same_object(tmp_path: Path, small: PartSizes) -> None:
    gate = Gate()
    data = bytes(range(256)) * 2000
    sink = PartSink(gate.store.begin("x/database.dump"), small, spill=Spill(tmp_path, 0))
    sink.write(data)  # returns although nothing has arrived
    gate.open.set()
    sink.finish()
    sink.commit()
    assert gate.store.get("x/database.dump") == data


def test_without_room_writing_waits_for_the_store(tmp_path: Path, small: PartSizes) -> None:
    gate = Gate()
    sink = PartSink(gate.store.begin("x/database.dump"), small, spill=Spill(tmp_path, 100))
    written = threading.Event()

    def write() -> None:
        sink.write(b"0" * 500_000)
        written.set()

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    assert not written.wait(0.3)
    gate.open.set()
    assert written.wait(PATIENCE)
    sink.finish()
    assert sink.size == 500_000


@pytest.mark.parametrize("folder", ["", "nowhere"])
def test_a_folder_that_is_missing_takes_nothing(tmp_path: Path, folder: str) -> None:
    spill = Spill(tmp_path / folder if folder else tmp_path, 0)
    place = spill.keep(bytearray(b"abc"))
    assert (place is None) == bool(folder)
    if place is not None:
        assert spill.read(place, 3) == b"abc"
    spill.close()


def test_doctor_says_how_long_a_snapshot_is_held(wired: Wire, tmp_path: Path) -> None:
    def detail(**more: str) -> str:
        return next(each.detail for each in examine(wired(**more)) if each.name == "snapshots")

    assert "until the store has the whole dump" in detail()
    recipient = str(pyrage.x25519.Identity.generate().to_public())
    assert "until the store has the whole dump" in detail(BACKUP_WORK_DIR=str(tmp_path))
    encrypted = detail(BACKUP_WORK_DIR=str(tmp_path), BACKUP_AGE_RECIPIENTS=recipient)
    assert f"encrypted parts wait in {tmp_path}" in encrypted
