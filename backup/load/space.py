"""Room on a disk: restored data may be larger than it claims, and production may use the same disk."""

import shutil
from pathlib import Path

from backup.cancellation import Check
from backup.errors import SpaceError
from backup.wiring import Wiring
from sidecar.humanize import size


def guarded(wiring: Wiring, folder: Path) -> Check:
    """A check for work in a folder, in any thread: whether the work must end, and whether the disk has room left."""
    return floored(folder, wiring.settings.work_dir_floor, wiring.stop.carried())


def floored(folder: Path, percent: float, check: Check) -> Check:
    """A check that also raises when the disk of a folder is almost full.

    Args:
        percent: the share of the disk that must stay free; 0 disables the check.
        check: an additional check.
    """

    def both() -> None:
        check()
        usage = shutil.disk_usage(folder)
        if usage.free < usage.total * percent / 100:
            raise SpaceError(
                f"{folder.parent}: only {size(usage.free)} are free, less than {percent:g} % of the disk",
                hint="set BACKUP_WORK_DIR to a folder with more room; BACKUP_WORK_DIR_FLOOR is the share that must stay free",
            )

    return both
