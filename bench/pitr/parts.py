"""The measurements. Each compares our code with PostgreSQL's own programs, in the same run."""

import random
import shutil
import statistics
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psutil
import psycopg

from backup.physical.pack import pack
from backup.pipeline import PackingOptions
from backup.pipeline.encrypt import parse_recipients
from bench.pitr.ledger import Figures, Ledger, recovered
from bench.pitr.place import DATABASE, SERVER, Place, Stream
from sidecar import OpsError
from sidecar.rootless import rootless
from stack.programs import find
from stack.servers import Postgres
from stack.wait import wait_for

SEGMENT = 16 << 20
RECEIVER_SLOT = "bench_receivewal"


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
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    program = [
        str(place.bin / "pg_receivewal"),
        "-D",
        str(folder),
        "-d",
        place.postgres.url,
        "--slot",
        RECEIVER_SLOT,
    ]
    subprocess.run([*program, "--create-slot"], check=True)
    with subprocess.Popen([*program, "--status-interval=1"]) as receiving:
        try:
            written = place.write_wal(megabytes)
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
            times = psutil.Process(receiving.pid).cpu_times()
        finally:
            receiving.terminate()
            receiving.wait()
    place.value(f"SELECT pg_drop_replication_slot('{RECEIVER_SLOT}')")
    used = float(times.user + times.system)
    options = PackingOptions(recipients=tuple(parse_recipients([place.env["BACKUP_AGE_RECIPIENTS"]])))
    client, began, packed = place.store.client(), time.process_time(), 0
    for path in sorted(folder.iterdir()):
        data = path.read_bytes()
        client.put_object(Bucket="bench", Key=f"receivewal/{path.name}", Body=pack(data, options).data)
        packed += len(data)
    shutil.rmtree(folder)
    return (used * packed / written + time.process_time() - began) / (packed / 1e9)


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
    """The commits a second of the primary with the stream and without it, in turns."""
    with_it, without = [], []
    for _ in range(rounds):
        without.append(_commits(place, seconds))
        with place.streaming():
            with_it.append(_commits(place, seconds))
    ours, alone = statistics.median(with_it), statistics.median(without)
    return {"commits_with": ours, "commits_without": alone, "throughput_ratio": ours / alone}


def _commits(place: Place, seconds: float) -> float:
    ledgers = [Ledger(place.postgres.url, None, f"ledger_{number}") for number in range(2)]
    with ExitStack() as stack:
        for ledger in ledgers:
            stack.enter_context(ledger)
        began = time.monotonic()
        time.sleep(seconds)
        spent = time.monotonic() - began
        return sum(len(ledger.acknowledged) for ledger in ledgers) / spent


def base(place: Place, rounds: int) -> Figures:
    """A base backup into the store, next to ``pg_basebackup | zstd`` into nothing."""
    ours, theirs, peak, stored = [], [], 0, 0
    for _ in range(rounds):
        with place.streaming():
            began = time.monotonic()
            facts, rss = place.backup("run", "-d", SERVER)
            ours.append(time.monotonic() - began)
        peak, stored = max(peak, rss), int(facts["stored_bytes"])
        began = time.monotonic()
        command = (
            f"{place.bin / 'pg_basebackup'} -d {place.postgres.url} -D - -Ft -X none -c fast"
            f" | {find('zstd')} -q -2 -T2 > /dev/null"
        )
        subprocess.run(["bash", "-o", "pipefail", "-c", command], check=True)
        theirs.append(time.monotonic() - began)
    limit = statistics.median(theirs)
    seconds = statistics.median(ours)
    return {
        "base_seconds": seconds,
        "limit_seconds": limit,
        "base_ratio": seconds / limit,
        "base_rss_bytes": peak,
        "base_stored_bytes": stored,
    }


def recovery(place: Place, megabytes: int) -> Figures:
    """From the store to a server that answers, next to the logical restore and to a local ``tar`` with ``cp``."""
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
    physical = place.folder / "physical" / "data"
    shutil.rmtree(physical.parent, ignore_errors=True)
    physical.parent.mkdir()
    began = time.monotonic()
    place.backup("restore", SERVER, "--at", "latest", "--to-folder", str(physical))
    with Postgres(physical.parent):
        ours = time.monotonic() - began
    shutil.rmtree(physical.parent)
    began = time.monotonic()
    place.backup("restore", "latest", "-d", DATABASE, "--into", "bench_logical")
    logical = time.monotonic() - began
    began = time.monotonic()
    proof, _ = place.backup("verify", "latest", "-d", SERVER)
    proven = time.monotonic() - began
    if not proof["ok"]:
        raise OpsError(f"the proof found {proof['differences'][0]}", hint="python -m backup verify -d main")
    began = time.monotonic()
    place.backup("verify", "latest", "-d", DATABASE)
    verified = time.monotonic() - began
    tar = _local(local)
    return {
        "recovery_seconds": ours,
        "logical_seconds": logical,
        "tar_seconds": tar,
        "recovery_ratio": ours / logical,
        "tar_ratio": ours / tar,
        "proof_seconds": proven,
        "verification_seconds": verified,
        "proof_ratio": proven / verified,
    }


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
    """Unpack a tar and replay with ``cp``: the fastest way without a store."""
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
    with Postgres(folder, options={"restore_command": f"cp {local / 'wal'}/%f %p"}) as server:
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
