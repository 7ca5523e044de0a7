"""Room on a disk: restored data may be larger than it claims, and production may use the same disk."""

import shutil
import time
from pathlib import Path

from backup.cancellation import Check
from backup.errors import SpaceError
from backup.wiring import Wiring
from sidecar.humanize import size

# Maximum interval between two looks at the disk, in seconds. The check itself is called for each megabyte, in several threads.
_LOOK_SECONDS = 0.1
# No disk is filled faster than this, in bytes per second. The less room there is, the sooner the next look.
_FASTEST = 16 << 30


def guarded(wiring: Wiring, folder: Path) -> Check:
    """A check for work in a folder, in any thread: whether the work must end, and whether the disk has room left."""
    return floored(folder, wiring.settings.work_dir_floor, wiring.stop.carried())


def room(folder: Path, percent: float) -> int:
    """The bytes that work may fill on the disk of a folder; negative if less than that share of it is free."""
    usage = shutil.disk_usage(folder)
    return int(usage.free - usage.total * percent / 100)


def floored(folder: Path, percent: float, check: Check) -> Check:
    """A check that also raises when the disk of a folder is almost full.

    Args:
        percent: the share of the disk that must stay free; 0 disables the check.
        check: an additional check.
    """
    due = 0.0

    def both() -> None:
        nonlocal due
        check()
        now = time.monotonic()
        if now < due:
            return
        left = room(folder, percent)
        if left < 0:
            raise SpaceError(
                f"{folder.parent}: only {size(shutil.disk_usage(folder).free)} is free, less than {percent:g}% of the disk",
                hint="set BACKUP_WORK_DIR to a folder with more room; BACKUP_WORK_DIR_FLOOR is the share that must stay free",
            )
        due = now + min(_LOOK_SECONDS, left / _FASTEST)

    return both
