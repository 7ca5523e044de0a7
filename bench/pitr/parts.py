"""The measurements. Each compares our code with PostgreSQL's own programs, in the same run."""

import random
import shutil
import statistics
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import psycopg

from backup.physical.pack import pack
from backup.pipeline import PackingOptions
from backup.pipeline.encrypt import parse_recipients
from bench.environment import BUCKET
from bench.pitr.discard import discarding
from bench.pitr.ledger import Figures, Ledger, recovered
from bench.pitr.place import DATABASE, SERVER, Place, Stream
from bench.pitr.turns import compared, median, take_turns
from sidecar.rootless import rootless
from stack.programs import find
from stack.servers import Postgres
from stack.wait import wait_for

SEGMENT = 16 << 20
RECEIVER_SLOT = "bench_receivewal"
# Of connections and caches, before commits are counted.
WARM_UP_SECONDS = 1.0


def disasters(place: Place, count: int) -> Figures:
    """Kill the stream and the server at random moments, and recover from the store alone."""
    chance = random.Random(1)
    lost: list[float] = []
    rows_lost, holes = 0, 0
    with place.streaming():
        place.backup("run", "-d", SERVER)
    for _ in range(count):
        with ExitStack() as stack:
            stream = stack.enter_context(place.streaming())
            ledger = stack.enter_context(Ledger(place.postgres.url))
            stream.await_stored()
            time.sleep(chance.uniform(1.0, 3.0))
            # The host is lost: from here on, neither of the two is used.
            stream.service.kill()
            place.postgres.kill()
        last, moment = ledger.acknowledged[-1]
        found = recovered(place)
        lost.append(max((moment - found.last).total_seconds(), 0.0) if found.n < last else 0.0)
        rows_lost += max(last - found.n, 0)
        holes += found.holes
        place.postgres.start()
    return {
        "disasters": count,
        "p50_seconds": statistics.median(lost),
        "max_seconds": max(lost),
        "holes": holes,
        "rows_lost": rows_lost,
    }


def cost(place: Place, megabytes: int) -> Figures:
    """The processor time of the stream for a burst, next to ``pg_receivewal`` and the same packing and storing."""
    with place.streaming() as stream:
        stream.await_stored()
        before, objects, stored = stream.cpu, _objects(stream), _stored(stream)
        written = place.write_wal(megabytes)
        behind = stream.await_stored()
        cpu, peak = stream.cpu - before, stream.peak
        traffic = {
            "objects": _objects(stream) - objects,
            "stored_share": (_stored(stream) - stored) / written,
        }
    theirs = _receivewal(place, megabytes)
    gigabytes = written / 1e9
    return {
        "gigabytes": gigabytes,
        "cpu_seconds_per_gigabyte": cpu / gigabytes,
        "receivewal_cpu_seconds_per_gigabyte": theirs,
        "cpu_ratio": cpu / gigabytes / theirs,
        "rss_bytes": peak,
        "behind_seconds": behind,
        **traffic,
    }


def _objects(stream: Stream) -> float:
    return stream.metric("backup_wal_objects_total")


def _stored(stream: Stream) -> float:
    return stream.metric("backup_wal_stored_bytes_total")


def _receivewal(place: Place, megabytes: int) -> float:
    """The processor time per GB of ``pg_receivewal``, and of packing and storing each whole segment as our stream does."""
    folder = place.folder / "received"
    with receiving(place, folder) as process:
        written = place.write_wal(megabytes)
        _await_received(place)
        times = psutil.Process(process.pid).cpu_times()
    used = float(times.user + times.system)
    options = PackingOptions(recipients=tuple(parse_recipients([place.env["BACKUP_AGE_RECIPIENTS"]])))
    client, began, packed = place.store.client(), time.process_time(), 0
    for path in sorted(folder.iterdir()):
        data = path.read_bytes()
        client.put_object(Bucket="bench", Key=f"receivewal/{path.name}", Body=pack(data, options).data)
        packed += len(data)
    shutil.rmtree(folder)
    return (used * packed / written + time.process_time() - began) / (packed / 1e9)


@contextmanager
def receiving(place: Place, folder: Path, *, keep: bool = False) -> Iterator["subprocess.Popen[bytes]"]:
    """``pg_receivewal`` with a slot, into an empty folder, while the block runs.

    Args:
        keep: keep the slot, as if the program had died.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    program = [str(place.bin / "pg_receivewal"), "-D", str(folder), "-d", place.postgres.url]
    subprocess.run([*program, "--slot", RECEIVER_SLOT, "--create-slot"], check=True)
    with subprocess.Popen([*program, "--slot", RECEIVER_SLOT, "--status-interval=1"]) as process:
        try:
            yield process
        finally:
            process.terminate()
            process.wait()
    if not keep:
        place.value(f"SELECT pg_drop_replication_slot('{RECEIVER_SLOT}')")


def _await_received(place: Place) -> None:
    """Wait until ``pg_receivewal`` has everything written so far."""
    end = place.position()
    asked = (
        "SELECT pg_wal_lsn_diff(write_lsn, '0/0') FROM pg_stat_replication"
        " WHERE application_name = 'pg_receivewal'"
    )
    wait_for(
        lambda: int(place.value(asked) or 0) >= end,
        timeout=600,
        what="pg_receivewal has all",
        hint="look at the server's log",
    )


def idle(place: Place, seconds: float) -> Figures:
    """The share of a processor that the stream uses while nothing is written, and at 100 commits a second."""
    figures: Figures = {}
    with place.streaming() as stream:
        stream.await_stored()
        figures["idle_share"] = _share(stream, seconds)
        objects = _objects(stream)
        with Ledger(place.postgres.url):
            figures["busy_share"] = _share(stream, seconds)
        figures["busy_objects_per_second"] = (_objects(stream) - objects) / seconds
    return figures


def _share(stream: Stream, seconds: float) -> float:
    before, began = stream.cpu, time.monotonic()
    time.sleep(seconds)
    return (stream.cpu - before) / (time.monotonic() - began)


def throughput(place: Place, seconds: float, rounds: int) -> Figures:
    """The commits a second of the primary: without a reader of its WAL, with the stream, and with ``pg_receivewal``.

    Without a reader they are counted twice: the difference is noise.
    """
    shares: list[float] = []

    def streaming() -> float:
        with place.streaming() as stream:
            # It begins with what was written without it.
            stream.await_stored()
            before, began = stream.cpu, time.monotonic()
            count = _commits(place, seconds)
            shares.append((stream.cpu - before) / (time.monotonic() - began))
            return count

    def received() -> float:
        folder = place.folder / "received"
        with receiving(place, folder):
            _await_received(place)
            count = _commits(place, seconds)
        shutil.rmtree(folder)
        return count

    found = take_turns(
        {
            "without": lambda: _commits(place, seconds),
            "stream": streaming,
            "again": lambda: _commits(place, seconds),
            "receivewal": received,
        },
        rounds,
    )
    return {
        "commits_without": median(found, "without"),
        "commits_with": median(found, "stream"),
        "commits_stream_share": statistics.median(shares),
        **compared("throughput", found, "stream", "without"),
        **compared("throughput_noise", found, "again", "without"),
        **compared("receivewal_throughput", found, "receivewal", "without"),
    }


def _commits(place: Place, seconds: float) -> float:
    ledgers = [Ledger(place.postgres.url, None, f"ledger_{number}") for number in range(2)]
    with ExitStack() as stack:
        for ledger in ledgers:
            stack.enter_context(ledger)
        time.sleep(WARM_UP_SECONDS)
        first, began = sum(len(ledger.acknowledged) for ledger in ledgers), time.monotonic()
        time.sleep(seconds)
        spent = time.monotonic() - began
        return (sum(len(ledger.acknowledged) for ledger in ledgers) - first) / spent


def base(place: Place, rounds: int) -> Figures:
    """A base backup into the store, and into one that discards it, next to ``pg_basebackup | zstd`` into nothing.

    The store runs on the same processors. The second figure is that of a store on another machine.
    """
    ours, discarded, theirs, peak, stored = [], [], [], 0, 0
    for _ in range(rounds):
        with place.streaming():
            spent, facts, rss = _base(place)
            ours.append(spent)
            peak, stored = max(peak, rss), int(facts["stored_bytes"])
            with discarding(place.store.port) as endpoint:
                elsewhere = replace(place, env={**place.env, "BACKUP_S3_ENDPOINT_URL": endpoint})
                spent, facts, rss = _base(elsewhere)
            discarded.append(spent)
            peak = max(peak, rss)
            # Its archives are not in the store.
            place.discard(str(facts["id"]))
        began = time.monotonic()
        command = (
            f"{place.bin / 'pg_basebackup'} -d {place.postgres.url} -D - -Ft -X none -c fast"
            f" | {find('zstd')} -q -2 -T2 > /dev/null"
        )
        subprocess.run(["bash", "-o", "pipefail", "-c", command], check=True)
        theirs.append(time.monotonic() - began)
    limit = statistics.median(theirs)
    return {
        "base_seconds": statistics.median(ours),
        "base_discarded_seconds": statistics.median(discarded),
        "limit_seconds": limit,
        "base_with_store_ratio": statistics.median(ours) / limit,
        "base_ratio": statistics.median(discarded) / limit,
        "base_rss_bytes": peak,
        "base_stored_bytes": stored,
    }


def _base(place: Place) -> tuple[float, dict[str, Any], int]:
    """Take a base backup; its seconds, its facts, and the peak memory in bytes."""
    began = time.monotonic()
    facts, rss = place.backup("run", "-d", SERVER)
    return time.monotonic() - began, facts, rss


def recovery(place: Place, megabytes: int, rounds: int) -> Figures:
    """From the store to a server that answers, next to the logical restore and to a local ``tar`` with ``cp``.

    For the comparison with the latter, the objects are in a local folder too, and both take turns.
    """
    local = place.folder / "local"
    shutil.rmtree(local, ignore_errors=True)
    (local / "wal").mkdir(parents=True)
    with place.streaming() as stream:
        place.backup("run", "-d", SERVER)
        with _archived(place, local):
            place.write_wal(megabytes)
            place.backup("run", "-d", DATABASE)
            stream.await_stored()
            place.value("SELECT pg_switch_wal()")
            stream.await_stored()
    ours = _recovered(place)
    near = replace(
        place, env={**place.env, "BACKUP_STORE_URL": (place.store.objects / BUCKET / "ours").as_uri()}
    )
    found = take_turns({"recovery": lambda: _recovered(near), "tar": lambda: _local(local)}, rounds)
    tar = median(found, "tar")
    began = time.monotonic()
    place.backup("restore", "latest", "-d", DATABASE, "--into", "bench_logical")
    logical = time.monotonic() - began
    began = time.monotonic()
    place.backup("verify", "latest", "-d", SERVER)
    proven = time.monotonic() - began
    began = time.monotonic()
    place.backup("verify", "latest", "-d", DATABASE)
    verified = time.monotonic() - began
    return {
        "recovery_seconds": ours,
        "logical_seconds": logical,
        "tar_seconds": tar,
        "recovery_ratio": ours / logical,
        "recovery_from_folder_seconds": median(found, "recovery"),
        **compared("tar", found, "recovery", "tar"),
        "tar_with_store_ratio": ours / tar,
        "proof_seconds": proven,
        "verification_seconds": verified,
        "proof_ratio": proven / verified,
    }


def _recovered(place: Place) -> float:
    """The seconds until a recovered server answers."""
    physical = place.folder / "physical" / "data"
    shutil.rmtree(physical.parent, ignore_errors=True)
    physical.parent.mkdir()
    began = time.monotonic()
    place.backup("restore", SERVER, "--at", "latest", "--to-folder", str(physical))
    with Postgres(physical.parent, durable=True):
        seconds = time.monotonic() - began
    shutil.rmtree(physical.parent)
    return seconds


@contextmanager
def _archived(place: Place, local: Path) -> Iterator[None]:
    """A base backup as a local tar, and each segment that the server finishes during the block, as it archives them."""
    command = [
        str(place.bin / "pg_basebackup"),
        "-d",
        place.postgres.url,
        "-D",
        str(local / "base"),
        "-Ft",
        "-X",
        "none",
        "-c",
        "fast",
    ]
    subprocess.run(command, check=True)
    program = [str(place.bin / "pg_receivewal"), "-D", str(local / "wal"), "-d", place.postgres.url]
    subprocess.run([*program, "--slot", RECEIVER_SLOT, "--create-slot"], check=True)
    start = str(place.value("SELECT pg_walfile_name(pg_current_wal_lsn())"))
    for path in (place.postgres.data / "pg_wal").glob("0" * 7 + "[0-9A-F]" * 17):
        if path.name <= start:
            shutil.copy(path, local / "wal" / path.name)
    with subprocess.Popen([*program, "--slot", RECEIVER_SLOT]) as receiving:
        try:
            yield
            end = str(place.value("SELECT pg_walfile_name(pg_current_wal_lsn() - 16777216)"))
            wait_for(
                (local / "wal" / end).exists,
                timeout=600,
                what="pg_receivewal has all",
                hint="look at the server's log",
            )
        finally:
            receiving.terminate()
            receiving.wait()
    place.value(f"SELECT pg_drop_replication_slot('{RECEIVER_SLOT}')")


def _local(local: Path) -> float:
    """Unpack a tar and replay with ``cp``: the fastest way without a store.

    As in production, the server keeps fsync on: it then syncs all files of such a folder before it replays, as our recovery
    does in the end.
    """
    folder = local / "server"
    data = folder / "data"
    # The server runs as another user if we are root.
    subprocess.run(["chmod", "-R", "a+rX", str(local)], check=True)
    began = time.monotonic()
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    for command in (
        ["mkdir", "-m", "700", str(data)],
        ["tar", "-xf", str(local / "base" / "base.tar"), "-C", str(data)],
        ["touch", str(data / "recovery.signal")],
    ):
        subprocess.run(rootless(command), check=True)
    copying = f"cp {local / 'wal'}/%f %p"
    with Postgres(folder, durable=True, options={"restore_command": copying}) as server:
        wait_for(
            lambda: _is_primary(server.url),
            timeout=600,
            what="the recovery ends",
            hint=f"read {server.log}",
            interval=0.05,
        )
        seconds = time.monotonic() - began
    shutil.rmtree(folder)
    return seconds


def _is_primary(url: str) -> bool:
    with suppress(psycopg.OperationalError), psycopg.connect(url) as connection:
        return connection.execute("SELECT pg_is_in_recovery()").fetchone() == (False,)
    return False
