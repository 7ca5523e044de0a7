"""Writes a Redis backup as an RDB file that a server loads when it starts."""

from pathlib import Path

from backup.catalogue.history import Entry
from backup.catalogue.records import Difference
from backup.errors import UnprovableError, VerificationError
from backup.load.download import check_space, download
from backup.load.throwaway import private_folder, sweep_folders
from backup.progress import Reporter
from backup.redis.engine import has_database
from backup.targets import RedisTarget
from backup.verify.redis import check_rdb, unloadable_reasons
from backup.wiring import Wiring
from sidecar import UsageError


def _checked(wiring: Wiring, entry: Entry, rdb: Path, reporter: Reporter) -> list[Difference]:
    """What is wrong with a file. Its digest matched, so a file of a version that the programs here do not know is written
    without this check."""
    reasons = unloadable_reasons(rdb, entry.manifest, wiring.redis_programs)
    try:
        if not reasons:
            return check_rdb(wiring.redis_programs, rdb, wiring.stop.check)
    except UnprovableError as error:
        reasons = [error.message]
    reporter.step(f"not checked here, written as it was stored: {reasons[0]}")
    return []


def _check_databases(wiring: Wiring, entry: Entry) -> None:
    """Refuse a file with keys in a database whose number the server does not have: it would not start with the file."""
    needed = max((space.number for space in entry.manifest.keyspaces), default=0)
    for target in wiring.targets:
        if (
            target.name == entry.manifest.database
            and isinstance(target, RedisTarget)
            and not has_database(target.address, needed)
        ):
            raise UsageError(
                f"{entry.id} has keys in database {needed}, and Redis {target.address} has fewer databases:"
                " it would not start with this backup; NOTHING was written",
                hint=f"set databases to {needed + 1} or more in its configuration, restart it, and run this again",
            )


def write_rdb(wiring: Wiring, entry: Entry, target: Path, reporter: Reporter | None = None) -> None:
    """Check the RDB of a backup and write it, readable only by this user. The file appears complete or not at all.

    Raises:
        UsageError: it is not a backup of Redis, the folder does not exist, or the server has too few databases.
        VerificationError: the backup is damaged. Nothing was written.
    """
    reporter = reporter or Reporter()
    if entry.manifest.kind != "redis":
        raise UsageError(f"{entry.id} is a backup of PostgreSQL", hint="--to is for Redis; use --into NEWDB")
    if not target.parent.is_dir():
        raise UsageError(f"--to {target}: the folder {target.parent} does not exist", hint="create it first")
    _check_databases(wiring, entry)
    # In the target's own folder: a rename is only atomic within one file system.
    sweep_folders(target.parent)
    with private_folder(target.parent) as folder:
        check_space(folder, entry.manifest.raw_bytes, "the restore")
        reporter.step("download, check and decompress the backup")
        files, differences = download(wiring, entry, folder, reporter.bytes)
        reporter.step("check the file with the check-rdb program")
        differences = differences or _checked(wiring, entry, files["rdb"], reporter)
        if differences:
            raise VerificationError(
                f"{entry.id} is damaged; NOTHING was written: {differences[0]}",
                hint="choose another backup: python -m backup list",
            )
        # Only this user may read it, regardless of the umask.
        files["rdb"].chmod(0o600)
        files["rdb"].replace(target)
