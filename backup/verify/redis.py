"""Verifies an RDB with a throwaway Redis server that loads it and counts its keys."""

import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import redis
from redis.exceptions import BusyLoadingError, RedisError

from backup.cancellation import Check, never
from backup.catalogue import layout
from backup.catalogue.manifest import Keyspace, Manifest
from backup.catalogue.records import Difference
from backup.confinement import Confinement
from backup.errors import OURS, UnprovableError, VerificationError
from backup.load.throwaway import MAX_LOG
from backup.pipeline.child import run_child, start
from backup.programs import Programs, clean_environment
from backup.redis.engine import keyspaces
from backup.redis.product import head, product_here, program, refusal, signature
from sidecar.signals import uninterrupted

LOAD_SECONDS = 1800.0
# Seconds without a response after which a server is queried again while it loads; after loading, it has failed.
ANSWER_SECONDS = 10.0
# The manifest does not list a database that gets its first key only while the RDB is written. Few servers have as many.
MIN_DATABASES = 1024
_TOO_NEW = re.compile(
    r"Can't handle RDB format version|Wrong signature|unsupported RDB|Unknown RDB (?:encoding|object) type"
)
_FAULT = re.compile(r"ERROR|error|Unexpected|checksum|corrupt", re.IGNORECASE)
# Errors of a server that lacks a module.
_MODULE = re.compile(
    r"module data I can't load|no matching module|Module .* (?:not found|missing)|MODULE_LOAD_INVALID_MAGIC"
)


def unloadable_reasons(rdb: Path, manifest: Manifest, programs: Programs) -> list[str]:
    """Why the programs here cannot load a file, by its signature; empty if they can, or if that is not known."""
    file = signature(head(rdb))
    if file is None:
        return []  # not an RDB; its check reports that
    reason = refusal(file, product_here(programs, file.product))
    return [f"{reason}: {_advice(manifest)}"] if reason else []


def _advice(manifest: Manifest) -> str:
    product, version = manifest.server.product or "redis", manifest.server.version
    return f"install {product} {version} or newer, or set BACKUP_REDIS_BIN to its programs"


def check_rdb(programs: Programs, rdb: Path, check: Check = never) -> list[Difference]:
    """The product's own check of the file's structure and checksum.

    Raises:
        UnprovableError: the program does not know this kind of file.
    """
    file = signature(head(rdb))
    name = program(programs, "check-rdb", file.product if file else "redis")
    if not programs.has(name) and programs.has(name.replace("check-rdb", "server")):
        return []  # loading it proves the same
    command = [programs.path(name), str(rdb)]
    # It writes nothing, and must not be able to change the file.
    confinement = Confinement(Path(os.devnull), (rdb,))
    ended = run_child(command, env=clean_environment(), confinement=confinement, check=check, output=True)
    if ended.status == 0:
        return []
    if ended.status < 0:
        raise VerificationError(f"{name} was killed by signal {-ended.status}", hint=OURS)
    reason = next(filter(_TOO_NEW.search, ended.errors), None)
    if file and reason:
        raise UnprovableError(f"{name}: {reason.strip()}", hint="set BACKUP_REDIS_BIN to newer programs")
    fault = next(filter(_FAULT.search, ended.errors), None) or " ".join(ended.errors[-3:])
    return [
        Difference(kind="object", object=layout.RDB, expected=f"{name} reports no fault", found=fault.strip())
    ]


@contextmanager
def server(
    programs: Programs, folder: Path, manifest: Manifest, check: Check = never, modules: Sequence[str] = ()
) -> Iterator["redis.Redis"]:
    """A server that has loaded the RDB of a folder, reachable only through a socket in that folder.

    Args:
        manifest: lists the databases. The server is started with enough of them, or it would not load the file.
        check: called while it loads; raises to stop.
        modules: files that the server loads first.

    Raises:
        VerificationError: the server did not start or did not load the RDB.
    """
    socket = folder / "redis.sock"
    command = [
        programs.path(_server_program(programs, folder)),
        "--port",
        "0",
        "--unixsocket",
        str(socket),
        "--dir",
        str(folder),
        "--dbfilename",
        layout.RDB,
        "--save",
        "",
        "--appendonly",
        "no",
        "--daemonize",
        "no",
        "--databases",
        str(max([MIN_DATABASES, *(space.number + 1 for space in manifest.keyspaces)])),
        *(word for module in modules for word in ("--loadmodule", module)),
    ]
    client = redis.Redis(unix_socket_path=str(socket), socket_timeout=ANSWER_SECONDS)
    process = None
    # The file has no name: a program in the folder could replace it.
    with tempfile.TemporaryFile(dir=folder) as log:
        try:
            with uninterrupted():
                process = _start(command, folder, log)
            _wait(process, client, log, check)
            yield client
        except RedisError as error:
            raise VerificationError(f"the throwaway server does not answer: {error}", hint=OURS) from None
        finally:
            client.close()
            if process is not None:
                # The whole group: the program may have been started by a script.
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _server_program(programs: Programs, folder: Path) -> str:
    file = signature(head(folder / layout.RDB))
    return program(programs, "server", file.product if file else "redis")


def _start(command: list[str], folder: Path, log: IO[bytes]) -> subprocess.Popen[bytes]:
    return start(
        command,
        env=clean_environment(),
        confinement=Confinement(folder),
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def compare_keys(manifest: Manifest, client: "redis.Redis") -> list[Difference]:
    """Compare the keys per database with what the server counted before and after the transfer.

    The RDB was taken at a moment in between, when a busy server may have had more keys than at both times, or fewer.
    """
    info = dict(client.info("keyspace"))
    loaded = {space.number: space.keys for space in keyspaces(info, info)}
    expected = {space.number: space for space in manifest.keyspaces}
    return [
        difference
        for number in sorted({*loaded, *expected})
        for difference in _compare(number, expected.get(number), manifest.keys_changed, loaded.get(number, 0))
    ]


def _compare(number: int, expected: Keyspace | None, changed: int, loaded: int) -> list[Difference]:
    counted = expected or Keyspace(number=number, keys=0, keys_after=0)
    # Changes beyond the difference of the two counts: keys that were added and removed again, or the reverse.
    aside = max(0, changed - abs(counted.keys_after - counted.keys)) // 2
    # Keys with an expiry may be missing: a server does not load expired keys.
    minimum = max(0, min(counted.keys, counted.keys_after) - counted.expiring - aside)
    maximum = max(counted.keys, counted.keys_after) + aside
    if minimum <= loaded <= maximum:
        return []
    wanted = f"{maximum} keys" if minimum == maximum else f"{minimum} to {maximum} keys"
    return [Difference(kind="keys", object=f"db{number}", expected=wanted, found=f"{loaded} keys")]


def _wait(process: subprocess.Popen[bytes], client: "redis.Redis", log: IO[bytes], check: Check) -> None:
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
    log.seek(max(0, os.fstat(log.fileno()).st_size - MAX_LOG))
    lines = log.read(MAX_LOG).decode(errors="replace").strip().splitlines()
    if reason := next((line for line in lines if _MODULE.search(line) or _TOO_NEW.search(line)), None):
        raise UnprovableError(
            f"the RDB was not loaded: {reason.strip()}",
            hint="set BACKUP_REDIS_MODULES, or BACKUP_REDIS_BIN to newer programs",
        )
    last_lines = "\n".join(lines)[-400:]
    raise VerificationError(
        f"the throwaway server did not load the RDB: {last_lines}", hint="run: python -m backup doctor"
    )


def notes(manifest: Manifest, client: "redis.Redis") -> list[str]:
    """Missing field expiries. Some may have expired by now, and no digest of the server covers them."""
    info = dict(client.info("keyspace"))
    loaded = {space.number: space.fields_expiring for space in keyspaces(info, info)}
    return [
        f"db{each.number}: {loaded.get(each.number, 0)} of {each.fields_expiring} keys have fields with an expiry;"
        " the others' have expired, or were lost"
        for each in manifest.keyspaces
        if loaded.get(each.number, 0) < each.fields_expiring
    ]
