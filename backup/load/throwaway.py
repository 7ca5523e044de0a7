"""A throwaway PostgreSQL server for one verification, reachable only through a socket in its own folder."""

import atexit
import fcntl
import logging
import os
import re
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

import psycopg
from psycopg import sql

from backup.cancellation import never
from backup.confinement import Confinement
from backup.errors import VerificationError
from backup.pipeline.child import run_child, start
from backup.postgres.dsn import Address
from backup.postgres.session import session
from backup.programs import Programs, clean_environment
from backup.rounds import Round
from sidecar import UsageError
from sidecar.signals import uninterrupted

log = logging.getLogger(__name__)

PREFIX = "posthub-verify-"
# The file that is locked while the folder is in use.
OWNER = "owner"
# The server's own folder in the private one.
SERVER = "pg"
DATA = "data"
SOCKET = ".s.PGSQL.5432"
# The kernel's limit for the path of a socket, in bytes (unix(7), without the final zero).
LONGEST_SOCKET_PATH = 107
START_SECONDS = 60.0
STOP_SECONDS = 20.0
QUIT_SECONDS = 5.0
# Options of initdb. The socket is in a private folder, so its clients need no password.
CREATION = ("--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C", "--no-instructions")
# Nothing in the server has to survive a crash, and only the restore runs in it.
_OPTIONS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    # Rows and indexes of new tables have no WAL, however small they are.
    "wal_skip_threshold": "0",
    "max_wal_senders": "0",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "1h",
    "autovacuum": "off",
    "maintenance_work_mem": "256MB",
    # Shared memory in the data folder: a container has 64 MB of /dev/shm, too little for a parallel index build.
    "dynamic_shared_memory_type": "mmap",
    "max_locks_per_transaction": "1024",
    "jit": "off",
    "log_timezone": "UTC",
    "TimeZone": "UTC",
}

# Maximum part of the log that is read: such a server may print endlessly.
MAX_LOG = 1 << 20
_NOT_READY = re.compile(r"FATAL: +the database system is ")
# Settings that keep the server private cannot be overridden.
_PRIVATE_SETTINGS = frozenset(
    {"listen_addresses", "unix_socket_directories", "hba_file", "ident_file", "data_directory", "config_file"}
)
# A database may load libraries into its sessions that this host lacks; then no one could connect to a restored one.
_LIBRARIES = ("session_preload_libraries", "local_preload_libraries")
NO_OPTIONS: Mapping[str, str] = {}

# The folders of this process that have not been removed yet.
_ours: set[Path] = set()


@dataclass(frozen=True)
class Cluster:
    """A running server. ``address`` is its maintenance database; it writes only to its own part of ``folder``."""

    folder: Path
    address: Address
    version: str


def fill(
    kept: Round,
    programs: Programs,
    folder: Path,
    superuser: str,
    parent: Path | None,
    check: Callable[[], None],
) -> None:
    """Create the data of a new server in its folder. Within a round, ``initdb`` runs once, and its result is copied.

    Each server is still new: earlier restores cannot have changed it.

    Raises:
        VerificationError: initdb failed, or there is no room for a copy.
    """

    def make(stack: ExitStack) -> Path:
        made = stack.enter_context(private_folder(parent)) / SERVER
        made.mkdir(mode=0o700)
        _initialise(programs, made, superuser, check)
        _slim(programs, made, superuser, check)
        return made / DATA

    template = kept.once((superuser, parent), make)
    if template is None:
        _initialise(programs, folder, superuser, check)
        return
    try:
        shutil.copytree(template, folder / DATA, copy_function=shutil.copyfile)
    except OSError as error:
        raise VerificationError(
            f"cannot create a server in {folder.parent}: {_reason(error)}",
            hint="set BACKUP_WORK_DIR to a folder with more room",
        ) from None


def _slim(programs: Programs, folder: Path, superuser: str, check: Callable[[], None]) -> None:
    """Drop template1, which nothing here uses: it is a third of the files that are copied for each server."""
    address = address_in(folder, superuser)
    with server(programs, folder, _OPTIONS, signal.SIGINT) as process:
        _wait(process, folder, address, check)
        with session(address) as connection:
            connection.execute("ALTER DATABASE template1 IS_TEMPLATE false")
            connection.execute("DROP DATABASE template1")


def _reason(error: OSError) -> str:
    """The reason of an error; that of a whole tree lists the errors of its files."""
    files = error.args[0] if isinstance(error, shutil.Error) else []
    return str(files[0][-1]) if files else error.strerror or str(error)


@contextmanager
def cluster(
    programs: Programs,
    *,
    superuser: str,
    parent: Path | None = None,
    check: Callable[[], None] = never,
    options: Mapping[str, str] = NO_OPTIONS,
    kept: Round | None = None,
    encoding: str = "UTF8",
) -> Iterator[Cluster]:
    """Create and start a server, and remove it in every case.

    Args:
        superuser: name of the original's bootstrap superuser, which the dump names as grantor.
        parent: where its folder is created; by default the system's temporary folder.
        check: called while the server is created; raises to stop.
        kept: what the round of verifications keeps.
        encoding: the encoding of its database postgres: role names are stored in it, and other databases read them unchanged.

    Raises:
        VerificationError: the server could not be created or started.
    """
    check_path(parent)
    with private_folder(parent) as folder:
        # Separate from the files that are restored and compared: code in the server must not change them.
        own = folder / SERVER
        own.mkdir(mode=0o700)
        fill(kept or Round(), programs, own, superuser, parent, check)
        unset = {name: "" for name in _LIBRARIES if name not in options}
        address = address_in(own, superuser).with_settings(unset)
        with server(programs, own, {**_OPTIONS, **options}) as process:
            _wait(process, own, address, check)
            if encoding != "UTF8":
                _encode(address, encoding)
            yield Cluster(folder, address, programs.version("postgres"))


def _encode(address: Address, encoding: str) -> None:
    with session(address.named("template1")) as connection:
        connection.execute("DROP DATABASE postgres")
        connection.execute(
            sql.SQL("CREATE DATABASE postgres TEMPLATE template0 ENCODING {} LOCALE 'C'").format(encoding)
        )


@contextmanager
def server(
    programs: Programs,
    folder: Path,
    options: Mapping[str, str],
    ending: signal.Signals = signal.SIGQUIT,
    readable: tuple[Path, ...] = (),
) -> "Iterator[subprocess.Popen[bytes]]":
    """Run a server on the data in its own folder, confined, reachable only through a socket there.

    Args:
        options: the settings that override those of its configuration file.
        ending: the signal that stops it; SIGQUIT saves nothing.
        readable: further paths that it may read.
    """
    process = None
    try:
        with uninterrupted():
            process = _start(programs, folder, options, readable)
        yield process
    finally:
        if process is not None:
            _stop(process, ending)


def check_path(parent: Path | None) -> None:
    """Check that a server in a private folder can have its socket there.

    Args:
        parent: the folder of the private folder; None for the system's temporary folder.

    Raises:
        UsageError: its path is too long.
    """
    made = Path(parent or tempfile.gettempdir()) / f"{PREFIX}{secrets.token_hex(4)}" / SERVER / SOCKET
    beyond = len(os.fsencode(made.absolute())) - LONGEST_SOCKET_PATH
    if beyond > 0:
        raise UsageError(
            f"the path {made.parents[2]} is too long for the socket of a PostgreSQL server, by {beyond} bytes",
            hint="choose a folder with a shorter path: BACKUP_WORK_DIR, or the parent of the folder of --to-folder",
        )


def address_in(folder: Path, superuser: str) -> Address:
    """The maintenance database of the server in a folder."""
    return Address({"host": str(folder), "user": superuser, "dbname": "postgres"})


def log_of(folder: Path) -> Path:
    """The log of the server in a folder, of its last start: next to the folder, where the server cannot replace it."""
    return folder.with_name("server.log")


def end_of_log(folder: Path) -> str:
    """The end of that log, without the refusals of connections that came too early or too late, which are not the cause."""
    with log_of(folder).open("rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - MAX_LOG))
        lines = file.read(MAX_LOG).decode(errors="replace").splitlines()
    return "\n".join(line for line in lines if not _NOT_READY.search(line))


def end_all(folder: Path) -> None:
    """Kill whatever is still running in a folder: a server that has ended may leave programs behind."""
    while running := running_in(folder):
        for pid in running:
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def sweep_folders(parent: Path | None = None) -> int:
    """Remove the servers of verifications whose process died; returns their number."""
    removed = 0
    for folder in Path(parent or tempfile.gettempdir()).glob(f"{PREFIX}*"):
        # A link could lead anywhere, and its owner's lock would say nothing about us.
        if folder.is_symlink():
            continue
        with suppress(OSError), (folder / OWNER).open("r+b") as owner:
            fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove(folder)
            removed += 1
    return removed


@contextmanager
def private_folder(parent: Path | None) -> Iterator[Path]:
    """A private folder, locked as long as its owner lives, so that a sweep leaves it alone. Missing parents are created.

    It leaves nothing behind, whenever a signal arrives: its name is known before it is created, its removal is not
    interrupted, and a folder whose removal a signal prevented is removed when the process ends.

    Raises:
        UsageError: the folder cannot be created.
    """
    folder = Path(parent or tempfile.gettempdir()) / f"{PREFIX}{secrets.token_hex(4)}"
    begun = folder.with_name(f".{folder.name}")
    _ours.update((begun, folder))
    try:
        with _made(begun) as owner:
            fcntl.flock(owner, fcntl.LOCK_EX)
            begun.rename(folder)  # sweepers see it only from now on
            try:
                yield folder
            finally:
                with uninterrupted():
                    _remove(folder)  # while it is locked: two that remove it at once hinder each other
    finally:
        with uninterrupted():
            for each in (begun, folder):
                _remove(each)
                _ours.discard(each)


def _made(folder: Path) -> IO[bytes]:
    try:
        # A new disk that is mounted here hides the parent folder of the image.
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.mkdir(mode=0o700)
        return (folder / OWNER).open("wb")
    except OSError as error:
        raise UsageError(
            f"cannot create a folder in {folder.parent}: {error.strerror}",
            hint="set BACKUP_WORK_DIR to a writable folder",
        ) from None


@atexit.register
def _remove_ours() -> None:
    """Remove what an exception at the wrong time left behind; nothing interrupts this."""
    for folder in list(_ours):
        _remove(folder)


def _remove(folder: Path) -> None:
    """Remove a folder and end everything that runs in it; restored content may have started programs and made folders inaccessible."""
    deadline = time.monotonic() + STOP_SECONDS
    while folder.exists():
        for pid in running_in(folder):
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(folder, onerror=partial(_open_and_again, folder))
        if time.monotonic() > deadline:
            log.warning("%s cannot be removed; it contains rows of a database", folder)
            return
        time.sleep(0.02 if folder.exists() else 0)


def _open_and_again(folder: Path, function: Callable[..., object], path: str, _: object) -> None:
    """Make a folder accessible and try again. Only folders inside the removed one are changed, never its parent."""
    parent = Path(path).parent
    with suppress(OSError):
        if parent == folder or folder in parent.parents:
            parent.chmod(0o700)
        if function in (os.unlink, os.rmdir):
            function(path)
        else:
            Path(path).chmod(0o700)


def running_in(folder: Path) -> list[int]:
    """Processes that work in a folder: servers, and the programs that they started."""
    inside = f"{folder.resolve()}/"
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if f"{process.joinpath('cwd').readlink()}/".startswith(inside):
                found.append(int(process.name))
    return found


def _initialise(programs: Programs, folder: Path, superuser: str, check: Callable[[], None]) -> None:
    command = [programs.path("initdb"), "-D", str(folder / DATA), "-U", superuser, *CREATION]
    ended = run_child(
        command, env=clean_environment(), confinement=Confinement(folder), as_root=False, check=check
    )
    if ended.status != 0:
        raise VerificationError(
            f"initdb failed: {' '.join(ended.errors).strip()[-400:]}",
            hint="run: python -m backup doctor; a verification needs PostgreSQL's server programs and a user other than root",
        )


def find_files(programs: Programs, parent: Path | None) -> None:
    """Check that the programs of a server find their files within its limits.

    ``initdb`` is given a path that leads through a file. So it looks for its files, and then fails before it creates anything.

    Raises:
        VerificationError: they do not find them.
    """
    with private_folder(parent) as folder:
        command = [programs.path("initdb"), "-D", str(folder / OWNER / DATA), *CREATION]
        ended = run_child(command, env=clean_environment(), confinement=Confinement(folder), as_root=False)
    message = " ".join(ended.errors).strip()
    if OWNER not in message:
        raise VerificationError(
            f"a confined initdb fails: {message[-400:]}",
            hint="a verification reads only /usr, the programs' folder and those next to it:"
            " copy what is linked from elsewhere, or use your system's packages",
        )


def server_options(text: str) -> dict[str, str]:
    """Settings of a throwaway server, as BACKUP_VERIFY_OPTIONS has them: ``name=value``, separated by semicolons.

    Raises:
        UsageError: a setting has no name or no value, or would open the server to others.
    """
    found = {}
    for part in filter(None, map(str.strip, text.split(";"))):
        name, equals, value = (each.strip() for each in part.partition("="))
        if not equals or not re.fullmatch(r"[A-Za-z_][\w.]*", name):
            raise UsageError(
                f"BACKUP_VERIFY_OPTIONS has {part!r}, which is not name=value",
                hint="for example: shared_preload_libraries=pgaudit,pg_cron; cron.database_name=restored",
            )
        if name.lower() in _PRIVATE_SETTINGS:
            raise UsageError(
                f"BACKUP_VERIFY_OPTIONS may not set {name}", hint="the throwaway server stays private"
            )
        found[name] = value
    return found


def _start(
    programs: Programs, folder: Path, given: Mapping[str, str], readable: tuple[Path, ...]
) -> subprocess.Popen[bytes]:
    options = {**given, "listen_addresses": "", "unix_socket_directories": str(folder)}
    flags = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
    with log_of(folder).open("wb") as output:
        return start(
            [programs.path("postgres"), "-D", str(folder / DATA), *flags],
            env=clean_environment(),
            confinement=Confinement(folder, readable),
            as_root=False,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _wait(
    process: subprocess.Popen[bytes], folder: Path, address: Address, check: Callable[[], None]
) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        check()
        with suppress(psycopg.OperationalError):
            psycopg.connect(address.conninfo, connect_timeout=2).close()
            return
        time.sleep(0.05)
    last_lines = end_of_log(folder).strip()[-400:]
    raise VerificationError(
        f"the throwaway server did not start: {last_lines}",
        hint="run: python -m backup doctor; or correct BACKUP_VERIFY_OPTIONS, if it is set",
    )


def _stop(process: subprocess.Popen[bytes], ending: signal.Signals) -> None:
    if process.poll() is None:
        process.send_signal(ending)
        try:
            # SIGQUIT saves nothing, so it takes no time.
            process.wait(QUIT_SECONDS if ending is signal.SIGQUIT else STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()
