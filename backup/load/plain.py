"""Writes a backup as plain files, for programs outside this project."""

from pathlib import Path

from backup.catalogue.history import Entry
from backup.errors import VerificationError
from backup.load.download import check_space, download
from backup.load.throwaway import private_folder, sweep_folders
from backup.progress import Reporter
from backup.wiring import Wiring
from sidecar import UsageError

_ENDINGS = {"archive": "dump", "globals": "roles.sql", "rdb": "rdb"}


def write_plain(
    wiring: Wiring, entry: Entry, folder: Path, reporter: Reporter | None = None
) -> dict[str, Path]:
    """Download, check, decrypt and decompress a backup; returns the files by role. No file appears before all are checked.

    Raises:
        UsageError: the folder does not exist, or already has such a file.
        VerificationError: the backup is damaged. Nothing was written.
    """
    reporter = reporter or Reporter()
    if not folder.is_dir():
        raise UsageError(f"the folder {folder} does not exist", hint="create it first")
    name = f"{entry.manifest.database}-{entry.id}"
    wanted: dict[str, Path] = {
        stored.role: folder / f"{name}.{_ENDINGS[stored.role]}" for stored in entry.manifest.objects
    }
    for path in wanted.values():
        if path.exists():
            raise UsageError(f"{path} already exists", hint="remove it, or name another folder with --to")
    # In the target's own folder: a rename is only atomic within one file system.
    sweep_folders(folder)
    with private_folder(folder) as work:
        check_space(work, entry.manifest.raw_bytes, "the download")
        reporter.step("download, check and decompress the backup")
        files, differences = download(wiring, entry, work, reporter.bytes)
        if differences:
            raise VerificationError(
                f"{entry.id} is damaged; NOTHING was written: {differences[0]}",
                hint="choose another backup: python -m backup list",
            )
        for role, path in wanted.items():
            files[role].chmod(0o600)
            files[role].replace(path)
    return wanted
