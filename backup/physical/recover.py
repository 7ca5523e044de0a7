"""Starts a server on an unpacked base backup, replays the WAL up to a target, and checks what was actually reached.

The server waits at its target ("paused"). It leaves recovery only when requested, after a check of what it has reached.
"""

import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import psycopg

from backup.cancellation import Check
from backup.confinement import Confinement
from backup.errors import RecoveryError, UnprovableError
from backup.load.throwaway import SERVER, address_in, end_all, end_of_log, server
from backup.physical import conf, lsn
from backup.physical.feed import Feed
from backup.physical.flush import sync_all
from backup.pipeline.child import run_child
from backup.postgres.dsn import Address
from backup.postgres.session import HeedingConnection, session
from backup.programs import Programs, clean_environment

OpenFeed = Callable[[str], Feed]
"""Creates the feed of one start, from the log file with which replay begins."""

# In the private folder, of which the server can write only its own part.
DATA = f"{SERVER}/data"
_ASIDE = "original-configuration"
_POLL_SECONDS = 0.02
# A server that waits at its target says so in its log. If it waits for another reason, only a query shows that.
_ASK_SECONDS = 1.0
# Number of starts with settings that the WAL has raised.
_TRIES = 3
_OPTIONS = {
    "fsync": "off",
    "full_page_writes": "off",
    "archive_mode": "off",
    "wal_level": "replica",
    "hot_standby": "on",
    "max_standby_archive_delay": "-1",
    "max_wal_size": "4GB",
    # Delete WAL that is no longer needed. If its files were recycled, the final sync would write them to the disk.
    "wal_recycle": "off",
    "checkpoint_timeout": "1h",
    "autovacuum": "off",
    "synchronous_standby_names": "",
    "dynamic_shared_memory_type": "mmap",
    "jit": "off",
    "log_timezone": "UTC",
    "TimeZone": "UTC",
}
_STOPPED = re.compile(r"LOG: +(recovery stopping|pausing at the end of recovery)")
_SEVERE = re.compile(r"(?:FATAL|PANIC): +(?P<text>.*)")
_NOT_BUILT = re.compile(r"could not restore image at .*compressed with .* not supported by build.*")
_STATE = """
SELECT pg_is_in_recovery(), pg_get_wal_replay_pause_state(), pg_last_wal_replay_lsn()::text,
       pg_last_xact_replay_timestamp()
"""
_HINT = "choose an earlier target, or another base backup: python -m backup wal status"


@dataclass(frozen=True)
class Reached:
    """The point that a recovery has reached.

    Attributes:
        position: the end of the last record that was replayed.
        moment: the time of the last commit that was replayed; None if there was none.
    """

    position: int
    moment: datetime | None


@dataclass(frozen=True)
class Paused:
    """A server that waits at its target, and answers read-only queries.

    Attributes:
        address: its maintenance database.
    """

    address: Address
    reached: Reached
    _process: "subprocess.Popen[bytes]"
    _folder: Path
    _check: Check

    def promote(self) -> None:
        """End recovery, so that the server accepts writes.

        At its target, the server reacts to ``pg_wal_replay_resume()`` at once, but to ``pg_promote()`` only after up to a second.

        Raises:
            RecoveryError: the server does not leave recovery.
        """
        with session(self.address) as connection:
            connection.execute("SELECT pg_wal_replay_resume()")
        while True:
            self._check()
            if self._process.poll() is not None:
                raise why_ended(self._folder)
            with session(self.address) as connection:
                row = connection.execute("SELECT pg_is_in_recovery()").fetchone()
            if row is not None and not row[0]:
                return
            time.sleep(_POLL_SECONDS)


def control(programs: Programs, folder: Path, check: Check) -> dict[str, str]:
    """The control file of the data in a folder.

    Raises:
        RecoveryError: the control file cannot be read.
    """
    ended = run_child(
        [programs.path("pg_controldata"), "-D", str(folder / DATA)],
        env=clean_environment(),
        confinement=Confinement(folder / SERVER),
        output=True,
        check=check,
    )
    if ended.status != 0:
        raise RecoveryError(
            f"the control file of the base backup cannot be read: {' '.join(ended.errors)[-300:]}",
            hint="its version must be that of the programs here; the base backup may be damaged: choose another one",
        )
    return conf.control("\n".join(ended.errors))


@contextmanager
def paused(
    programs: Programs,
    folder: Path,
    superuser: str,
    feed: OpenFeed,
    target: Mapping[str, str],
    *,
    options: Mapping[str, str],
    check: Check,
) -> Iterator[Paused]:
    """Replay the WAL over the data in a private folder, up to a target, and keep the server there.

    Afterwards it is shut down cleanly, so that a later call continues from there.

    Args:
        folder: its part :data:`backup.load.throwaway.SERVER` is the server's own, with the data.
        superuser: a role that may log in.
        target: settings of the target; see :func:`backup.physical.targets.settings`.
        options: further settings of the server.

    Raises:
        RecoveryError: the target was not reached; the reason is named.
        UnprovableError: the programs here lack something that the original had.
        OpsError: a file of the WAL could not be fetched.
    """
    fields, own = control(programs, folder, check), folder / SERVER
    if not (folder / _ASIDE).exists():
        conf.install(folder / DATA, folder / _ASIDE)
    least = conf.needed(fields)
    for left in reversed(range(_TRIES)):
        (folder / DATA / "recovery.signal").touch()
        with feed(fields["Latest checkpoint's REDO WAL file"]) as opened:
            given = {**_OPTIONS, **least, **options, **target, "restore_command": opened.command}
            with server(programs, own, given, signal.SIGINT, (opened.folder,)) as process:
                reached = _await(process, own, address_in(own, superuser), opened, check)
                if reached is not None:
                    yield Paused(address_in(own, superuser), reached, process, own, check)
                    return
        more = conf.raised(end_of_log(own))
        if not more or not left:
            raise why_ended(own)
        least |= more
        fields = control(programs, folder, check)


def _await(
    process: "subprocess.Popen[bytes]", folder: Path, address: Address, feed: Feed, check: Check
) -> Reached | None:
    """The point that was reached; None if the server needs larger settings."""
    asked, stopped = time.monotonic(), False
    while True:
        check()
        if feed.failure is not None:
            raise feed.failure
        if process.poll() is not None:
            if conf.raised(end_of_log(folder)):
                return None
            raise why_ended(folder)
        stopped = stopped or _has_stopped(folder)
        state = None
        if stopped or time.monotonic() - asked > _ASK_SECONDS:
            asked, state = time.monotonic(), _state(address)
        if state is None or state[1] != "paused":
            time.sleep(_POLL_SECONDS)
            continue
        # It also pauses where it cannot continue, which is not the target.
        return Reached(lsn.parse(state[2]), state[3]) if stopped or _has_stopped(folder) else None


def _has_stopped(folder: Path) -> bool:
    return _STOPPED.search(end_of_log(folder)) is not None


def _state(address: Address) -> tuple[bool, str, str, datetime | None] | None:
    """The state of recovery; None while the server does not answer."""
    with suppress(psycopg.OperationalError):
        with HeedingConnection.connect(address.conninfo, connect_timeout=2, autocommit=True) as connection:
            row = connection.execute(_STATE).fetchone()
        assert row is not None
        return row[0], row[1], row[2], row[3]
    return None


def why_ended(folder: Path) -> RecoveryError | UnprovableError:
    """Why a server has ended, according to its log. It never counts as having reached the target."""
    text = end_of_log(folder)
    if found := _NOT_BUILT.search(text):
        return UnprovableError(
            f"the programs here cannot read the WAL: {found[0].strip()}",
            hint="use programs that are built like the original's: set BACKUP_POSTGRES_BIN",
        )
    messages = [each["text"].strip() for each in _SEVERE.finditer(text)]
    if any("before configured recovery target was reached" in each for each in messages):
        return RecoveryError(
            "the WAL ends, or is damaged, before the target",
            hint="for the newest state: --at latest; or choose an earlier target: python -m backup wal status",
        )
    if any("is before consistent recovery point" in each for each in messages):
        return RecoveryError("the target is before the end of the base backup", hint=_HINT)
    why = messages[-1] if messages else text.strip()[-300:] or "it ended without a message"
    return RecoveryError(f"the server could not recover: {why}", hint=_HINT)


def settle(folder: Path, check: Check) -> None:
    """Prepare the data of a promoted server for production: restore its own configuration, and sync it to the disk.

    Raises:
        RecoveryError: it could not be written to the disk.
    """
    own = folder / SERVER
    end_all(own)
    if (folder / DATA).is_symlink() or any((folder / DATA / name).is_dir() for name in conf.REPLACED):
        raise RecoveryError(
            "the server has replaced its own data folder, or its configuration, by something else",
            hint="do not use this base backup: code in it has run",
        )
    conf.put_back(folder / DATA, folder / _ASIDE)
    sync_all(own, check)
