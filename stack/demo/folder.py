"""The demo's folder: used by one demo at a time, and emptied only if a demo created it."""

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from sidecar import OpsError, UsageError

MARK = ".posthub-ops-demo"
KEPT = ("logs", "dashboards")


@contextmanager
def fresh(folder: Path) -> Iterator[Path]:
    """Empty the folder of an earlier demo's state and lock it while this demo runs.

    Raises:
        UsageError: the folder has other content, or cannot be written.
        OpsError: another demo is running in it.
    """
    folder = folder.absolute()
    with _marked(folder) as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OpsError(
                f"another demo is running in {folder}", hint="end it with Ctrl-C, or choose --folder OTHER"
            ) from None
        with _readable_errors(folder):
            _empty(folder)
        yield folder


def tidy(folder: Path) -> None:
    """Remove the servers' data, which nothing reads after the demo, and keep what people read."""
    for entry in folder.iterdir():
        if entry.is_dir() and entry.name not in KEPT:
            shutil.rmtree(entry, ignore_errors=True)


def _marked(folder: Path) -> IO[str]:
    """The open marker file in the folder."""
    mark = folder / MARK
    with _readable_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        if not mark.exists() and any(folder.iterdir()):
            raise UsageError(
                f"--folder {folder} is not empty, and no demo created it",
                hint="choose an empty or a new folder",
            )
        return mark.open("w")


@contextmanager
def _readable_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UsageError(
            f"--folder {folder}: {error.filename}: {error.strerror}",
            hint="choose a folder that you can write to",
        ) from None


def _empty(folder: Path) -> None:
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        elif entry.name != MARK:
            entry.unlink()
