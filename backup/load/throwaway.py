"""A throwaway PostgreSQL server: made for one verification, reachable through a socket in its own folder only."""

import fcntl
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psycopg

from backup.errors import VerificationError
from backup.postgres.dsn import Address
from backup.programs import Programs, clean_environment
from sidecar import UsageError
from sidecar.rootless import rootless
from sidecar.signals import uninterrupted

PREFIX = "posthub-verify-"
# Where a server other than PostgreSQL leaves its process' number.
PID_FILE = "server.pid"
START_SECONDS = 60.0
STOP_SECONDS = 20.0
# Nothing in it is worth keeping, and nothing but the restore runs in it.
_OPTIONS = {
    "listen_addresses": "",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "1h",
    "autovacuum": "off",
    "maintenance_work_mem": "256MB",
    # In the data folder: a container has 64 MB of /dev/shm, less than one parallel index build wants.
    "dynamic_shared_memory_type": "mmap",
    "max_locks_per_transaction": "1024",
    "jit": "off",
    "log_timezone": "UTC",
    "TimeZone": "UTC",
}


@dataclass(frozen=True)
class Cluster:
    """A running server. ``address`` is its maintenance database."""

    folder: Path
    address: Address
    version: str


@contextmanager
def cluster(programs: Programs, *, superuser: str, parent: Path | None = None) -> Iterator[Cluster]:
    """Make, start and in every case remove a server.

    Args:
        superuser: the name of the original's first superuser: grants name it as their giver.
        parent: where its folder is made; the system's temporary folder by default.

    Raises:
        VerificationError: it could not be made or started.
    """
    with private_folder(parent) as folder:
        _initialise(programs, folder, superuser)
        process = None
        try:
            with uninterrupted():
                process = _start(programs, folder)
            address = Address({"host": str(folder), "user": superuser, "dbname": "postgres"})
            _wait(process, folder, address)
            yield Cluster(folder, address, programs.version("postgres"))
        finally:
            if process is not None:
                _stop(process)


def sweep_folders(parent: Path | None = None) -> int:
    """Remove the servers of verifications whose process died; returns how many there were."""
    removed = 0
    for folder in Path(parent or tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with suppress(OSError), (folder / "owner").open("r+b") as owner:
            fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _kill_left_over(folder)
            shutil.rmtree(folder, ignore_errors=True)
            removed += 1
    return removed


@contextmanager
def private_folder(parent: Path | None) -> Iterator[Path]:
    """A private folder with a lock that tells sweepers that its owner lives.

    Raises:
        UsageError: it cannot be made.
    """
    try:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
    except OSError as error:
        raise UsageError(
            f"no folder can be made in {parent or tempfile.gettempdir()}: {error.strerror}",
            hint="BACKUP_WORK_DIR must be a folder that we may write in",
        ) from None
    try:
        with (folder / "owner").open("wb") as owner:
            fcntl.flock(owner, fcntl.LOCK_EX)
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _initialise(programs: Programs, folder: Path, superuser: str) -> None:
    # The socket is in a folder that is ours alone, so its peers need no password.
    command = [
        programs.path("initdb"), "-D", str(folder / "data"), "-U", superuser, "--auth=trust", "--no-sync",
        "--encoding=UTF8", "--locale=C", "--no-instructions",
    ]  # fmt: skip
    done = subprocess.run(
        rootless(command), capture_output=True, text=True, check=False, env=clean_environment()
    )
    if done.returncode != 0:
        raise VerificationError(
            f"initdb failed: {done.stderr.strip()[-400:]}",
            hint="run: python -m backup doctor; the verification needs PostgreSQL's server programs, and not to be root",
        )


def _start(programs: Programs, folder: Path) -> subprocess.Popen[bytes]:
    options = {**_OPTIONS, "unix_socket_directories": str(folder)}
    flags = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
    with (folder / "server.log").open("wb") as output:
        return subprocess.Popen(
            rootless([programs.path("postgres"), "-D", str(folder / "data"), *flags]),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=clean_environment(),
            start_new_session=True,
        )


def _wait(process: subprocess.Popen[bytes], folder: Path, address: Address) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(psycopg.OperationalError):
            psycopg.connect(address.conninfo, connect_timeout=2).close()
            return
        time.sleep(0.05)
    said = (folder / "server.log").read_text(errors="replace").strip()[-400:]
    raise VerificationError(
        f"the throwaway server did not start: {said}", hint="run: python -m backup doctor"
    )


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Immediate shutdown: nothing is to be saved."""
    if process.poll() is None:
        process.send_signal(signal.SIGQUIT)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()


def _kill_left_over(folder: Path) -> None:
    for file, how in ((Path("data", "postmaster.pid"), signal.SIGQUIT), (Path(PID_FILE), signal.SIGKILL)):
        with suppress(OSError, ValueError, IndexError):
            pid = int((folder / file).read_text().splitlines()[0])
            # A number may have been given to another program since; ours works where its data is.
            if Path(f"/proc/{pid}/cwd").resolve().is_relative_to(folder.resolve()):
                os.kill(pid, how)
                time.sleep(0.5)
