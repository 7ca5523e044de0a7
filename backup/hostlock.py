"""A lock between the processes of one host. The kernel releases it when its holder dies."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def host_lock(folder: Path, name: str) -> Iterator[None]:
    """Wait for the lock with a name, and hold it. Sweeping and copying exclude each other by it."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (folder / f"{name}.lock").open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
