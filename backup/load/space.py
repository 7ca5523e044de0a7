"""Room on a disk: what is restored may be larger than it says, and production may live on the same disk."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path

from backup.errors import SpaceError
from sidecar.humanize import size

Check = Callable[[], None]
LOOK_SECONDS = 0.25


def floored(folder: Path, percent: float, check: Check) -> Check:
    """A check that also raises when the disk of a folder is all but full.

    Args:
        percent: of the disk that must stay free; 0 does not look.
        check: what is checked besides.
    """
    looked = 0.0

    def both() -> None:
        nonlocal looked
        check()
        now = time.monotonic()
        if not percent or now - looked < LOOK_SECONDS:
            return
        looked = now
        usage = shutil.disk_usage(folder)
        if usage.free < usage.total * percent / 100:
            raise SpaceError(
                f"{folder.parent}: only {size(usage.free)} are free, less than {percent:g} % of the disk",
                hint="set BACKUP_WORK_DIR to a folder with more room; BACKUP_WORK_DIR_FLOOR is the share that must stay free",
            )

    return both
