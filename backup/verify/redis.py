"""Verifies an RDB with a throwaway Redis server that loads it and counts its keys."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import redis
from redis.exceptions import BusyLoadingError, RedisError

from backup.cancellation import never
from backup.catalogue import layout
from backup.catalogue.manifest import Keyspace, Manifest
from backup.catalogue.records import Difference
from backup.confinement import Confinement
from backup.errors import OURS, VerificationError
from backup.pipeline.child import run_child, start
from backup.programs import Programs, clean_environment
from backup.redis.engine import keyspaces
from sidecar.signals import uninterrupted

Check = Callable[[], None]
LOAD_SECONDS = 1800.0


def check_rdb(programs: Programs, rdb: Path, check: Check = never) -> list[Difference]:
    """Redis's own check of the file's structure and checksum."""
    command = [programs.path("redis-check-rdb"), str(rdb)]
    result = run_child(
        command, env=clean_environment(), confinement=Confinement(rdb.parent), check=check, output=True
    )
    if result.status == 0:
        return []
    errors = " ".join(result.errors[-3:])
    if result.status < 0:
        raise VerificationError(f"redis-check-rdb was killed by signal {-result.status}", hint=OURS)
    return [
        Difference(
            kind="object", object=layout.RDB, expected="redis-check-rdb reports no error", found=errors
        )
    ]


@contextmanager
def server(programs: Programs, folder: Path, check: Check = never) -> Iterator["redis.Redis"]:
    """A server that has loaded the RDB of a folder, reachable only through a socket in that folder.

    Args:
        check: called while it loads; raises to stop.

    Raises:
        VerificationError: the server did not start or did not load the RDB.
    """
    socket = folder / "redis.sock"
    command = [
        programs.path("redis-server"), "--port", "0", "--unixsocket", str(socket), "--dir", str(folder),
        "--dbfilename", layout.RDB, "--save", "", "--appendonly", "no", "--daemonize", "no",
    ]  # fmt: skip
    client = redis.Redis(unix_socket_path=str(socket))
    process = None
    try:
        with uninterrupted():
            process = _start(command, folder)
        _wait(process, client, folder, check)
        yield client
    finally:
        client.close()
        if process is not None:
            # The whole group: the program may have been started by a script.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _start(command: list[str], folder: Path) -> subprocess.Popen[bytes]:
    with (folder / "server.log").open("wb") as output:
        return start(
            command, env=clean_environment(), confinement=Confinement(folder), stdin=subprocess.DEVNULL, stdout=output,
            stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip


def compare_keys(manifest: Manifest, client: "redis.Redis") -> list[Difference]:
    """Compare the keys per database with what the server counted before and after the transfer."""
    info = dict(client.info("keyspace"))
    loaded = {space.number: space.keys for space in keyspaces(info, info)}
    expected = {space.number: space for space in manifest.keyspaces}
    return [
        difference
        for number in sorted({*loaded, *expected})
        for difference in _compare(number, expected.get(number), loaded.get(number, 0))
    ]


def _compare(number: int, expected: Keyspace | None, loaded: int) -> list[Difference]:
    if expected is None:
        minimum = maximum = 0
    else:
        # Keys with an expiry may be missing: a server does not load expired keys.
        minimum = min(expected.keys, expected.keys_after) - expected.expiring
        maximum = max(expected.keys, expected.keys_after)
    if minimum <= loaded <= maximum:
        return []
    wanted = f"{maximum} keys" if minimum == maximum else f"{minimum} to {maximum} keys"
    return [Difference(kind="keys", object=f"db{number}", expected=wanted, found=f"{loaded} keys")]


def _wait(process: subprocess.Popen[bytes], client: "redis.Redis", folder: Path, check: Check) -> None:
    deadline = time.monotonic() + LOAD_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        check()
        try:
            client.ping()
            return
        except BusyLoadingError:
            time.sleep(0.1)
        except RedisError:
            time.sleep(0.05)
    output = (folder / "server.log").read_text(errors="replace").strip()[-400:]
    raise VerificationError(
        f"the throwaway Redis did not load the RDB: {output}", hint="run: python -m backup doctor"
    )
