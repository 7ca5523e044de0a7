"""A lock between the processes of one host. The kernel releases it when its holder dies."""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sidecar import UsageError

POLL_SECONDS = 0.2


@contextmanager
def host_lock(folder: Path, name: str, sleep: Callable[[float], None]) -> Iterator[None]:
    """Wait for the lock with a name, and hold it. Sweeping and copying use it to exclude each other.

    Args:
        folder: a private folder; it is created if it does not exist.
        sleep: waits, and raises when the work has to stop.

    Raises:
        UsageError: the folder or the file belongs to someone else, who could block us.
    """
    handle = _opened(folder, name)
    try:
        while not _taken(handle):
            sleep(POLL_SECONDS)
        yield
    finally:
        os.close(handle)


def _opened(folder: Path, name: str) -> int:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        inside = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError as error:
        raise _not_ours(folder, error.strerror or "it cannot be opened") from None
    try:
        found = os.fstat(inside)
        if found.st_uid != os.geteuid():
            raise _not_ours(folder, f"it belongs to user {found.st_uid}")
        return os.open(
            f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=inside
        )
    except OSError as error:
        raise _not_ours(folder / f"{name}.lock", error.strerror or "it cannot be opened") from None
    finally:
        os.close(inside)


def _taken(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _not_ours(path: Path, why: str) -> UsageError:
    return UsageError(
        f"{path} cannot be used for locks: {why}",
        hint="remove it, or set TMPDIR to a folder of this user",
    )
