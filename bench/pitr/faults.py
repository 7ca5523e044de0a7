"""Faults at random moments and outages, each judged by what the store alone gives back."""

import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import psycopg

from bench.background import Background
from bench.pitr import parts
from bench.pitr.ledger import Figures, Ledger, recovered
from bench.pitr.place import SERVER, SLOT, Place
from bench.pitr.turns import compared, take_turns
from stack.paths import ROOT

MIB = 1 << 20
CAP = 256 * MIB
# Of a running server: segments that it finishes while a checkpoint looks for old ones.
CHECKPOINT_SEGMENTS = 8
# Bytes that the load of an outage commits, and the seconds between two commits.
MESSAGE, PAUSE = 200_000, 0.1


def server_lost(place: Place, count: int) -> Figures:
    """Kill only the server at random moments; what was acknowledged before is recovered from the store alone."""
    chance = random.Random(2)
    lost, holes = 0, 0
    with place.streaming():
        place.backup("run", "-d", SERVER)
    for _ in range(count):
        with ExitStack() as stack:
            stream = stack.enter_context(place.streaming())
            ledger = stack.enter_context(Ledger(place.postgres.url))
            stream.await_stored()
            time.sleep(chance.uniform(1.0, 3.0))
            last = ledger.acknowledged[-1][0]
            place.postgres.kill()
            stream.await_metric("backup_wal_streaming", 0)
        found = recovered(place)
        lost, holes = lost + max(last - found.n, 0), holes + found.holes
        place.postgres.start()
    return {"servers_lost": count, "server_lost_rows": lost, "server_lost_holes": holes}


def outage(place: Place, seconds: float) -> Figures:
    """The store is dead for a while under load: nothing is lost, memory is bounded, and the stream catches up."""
    with place.streaming() as stream:
        place.backup("run", "-d", SERVER)
        with _Load(place.postgres.url), Ledger(place.postgres.url) as ledger:
            stream.await_stored()
            files = _files(place)
            place.store.stop()
            began, begin = time.monotonic(), place.position()
            time.sleep(seconds)
            written, spent = place.position() - begin, time.monotonic() - began
            new_files = len(_files(place) - files)
            place.store.start()
            behind = stream.await_stored()
        stream.await_stored()
        peak, last = stream.peak, ledger.acknowledged[-1][0]
        gaps = stream.metric("backup_wal_gaps_total")
    found = recovered(place)
    return {
        "outage_seconds": spent,
        "outage_rss_bytes": peak,
        "outage_files": new_files,
        "outage_gaps": gaps,
        "outage_rows_lost": max(last - found.n, 0) + found.holes,
        "catch_up_seconds": behind,
        "catch_up_ratio": (written / behind) / (written / spent),
    }


class _Load(Background):
    """Commits WAL of random bytes at a steady pace."""

    def __init__(self, url: str) -> None:
        self._url = url
        super().__init__()

    def work(self) -> None:
        with psycopg.connect(self._url, autocommit=True) as connection:
            while not self.ending.wait(PAUSE):
                connection.execute(
                    "SELECT pg_logical_emit_message(true, 'bench', %s::bytea)", [random.randbytes(MESSAGE)]
                )


def _files(place: Place) -> set[str]:
    """Whatever our processes could have written outside the store, except their logs."""
    return {
        str(path)
        for name in ("wal", "work")
        for path in (place.folder / name).rglob("*")
        if path.suffix != ".log"
    }


def kills(place: Place, streams: int, bases: int) -> Figures:
    """Kill the stream and base backups at random moments under load."""
    chance = random.Random(3)
    with place.streaming():
        began = time.monotonic()
        place.backup("run", "-d", SERVER)
        usual = time.monotonic() - began
    with Ledger(place.postgres.url) as ledger:
        for _ in range(streams):
            with place.streaming() as stream:
                time.sleep(chance.uniform(0.0, 1.5))
                stream.service.kill()
        with place.streaming() as stream:
            for _ in range(bases):
                _killed_base(place, chance.uniform(0.0, 1.2 * usual))
            stream.await_stored()
    with place.streaming() as stream:
        stream.await_stored()
        gaps = stream.metric("backup_wal_gaps_total")
        listed = place.listed()
        unproven = sum(not place.backup("verify", each, "-d", SERVER)[0]["ok"] for each in listed)
    found = recovered(place)
    last = ledger.acknowledged[-1][0]
    return {
        "kills": streams + bases,
        "kill_gaps": gaps,
        "kill_holes": found.holes + max(last - found.n, 0),
        "bases_listed": len(listed),
        "bases_unproven": unproven,
    }


def _killed_base(place: Place, seconds: float) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "backup", "run", "-d", SERVER],
        env=dict(place.env),
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def cap(place: Place, rounds: int) -> Figures:
    """The sidecar is dead until three times the limit is written: production continues, and the gap is recorded.

    A slot of ``pg_receivewal``, dead as well, shows what of the cost is PostgreSQL's own. Without a slot, it is measured
    twice: the difference is noise.
    """

    def streamed() -> float:
        with place.streaming() as stream:
            stream.await_stored()
        seconds = _written(place)
        _drop_slot(place, SLOT)
        return seconds

    def received() -> float:
        with parts.receiving(place, place.folder / "received", keep=True):
            pass
        seconds = _written(place)
        _drop_slot(place, parts.RECEIVER_SLOT)
        return seconds

    subjects = {
        "without": lambda: _written(place),
        "stream": streamed,
        "again": lambda: _written(place),
        "receivewal": received,
    }
    with _limited(place), _Watch(place) as watch:
        found = take_turns(subjects, rounds)
        with place.streaming() as stream:
            stream.await_stored()
        _written(place)
        place.value("CHECKPOINT")
        began = time.monotonic()
        with place.streaming() as stream:
            stream.await_metric("backup_wal_gaps_total", 1)
            recorded = time.monotonic() - began
    allowed = 2 * CAP + CHECKPOINT_SEGMENTS * 16 * MIB
    return {
        "cap_wal_bytes": watch.most,
        "cap_wal_ratio": watch.most / allowed,
        # Of the times: the pace is their reciprocal.
        **compared("cap_throughput", found, "without", "stream"),
        **compared("cap_throughput_noise", found, "without", "again"),
        **compared("cap_receivewal_throughput", found, "without", "receivewal"),
        "gap_recorded_seconds": recorded,
    }


def _written(place: Place) -> float:
    """The seconds in which three times the limit is written. Each time begins alike: with an empty table, after a checkpoint."""
    place.value("DROP TABLE IF EXISTS bench_wal")
    place.value("CREATE TABLE bench_wal (n bigint, body text, tag uuid) WITH (autovacuum_enabled = off)")
    place.value("CHECKPOINT")
    began = time.monotonic()
    place.write_wal(3 * CAP // 10**6)
    return time.monotonic() - began


def _drop_slot(place: Place, name: str) -> None:
    place.value(
        f"SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = '{name}'"
    )


@contextmanager
def _limited(place: Place) -> Iterator[None]:
    """A server with a small limit for the slot, and for WAL between checkpoints; without a slot at first."""
    usual = place.postgres.options
    small = {"max_slot_wal_keep_size": CAP, "max_wal_size": CAP, "min_wal_size": CAP // 4}
    _drop_slot(place, SLOT)
    _restart(place, {**usual, **{name: f"{value // MIB}MB" for name, value in small.items()}})
    try:
        for _ in range(2):
            place.value("SELECT pg_switch_wal()")
            place.value("CHECKPOINT")
        yield
    finally:
        _restart(place, usual)


def _restart(place: Place, options: dict[str, str]) -> None:
    place.postgres.stop()
    place.postgres.options = options
    place.postgres.start()


class _Watch(Background):
    """The most that the server's WAL takes on the disk."""

    def __init__(self, place: Place) -> None:
        self.most = 0
        self._folder = place.postgres.data / "pg_wal"
        super().__init__()

    def work(self) -> None:
        while not self.ending.wait(0.1):
            segments = sum(len(each.name) == 24 for each in self._folder.iterdir())
            self.most = max(self.most, segments * 16 * MIB)
