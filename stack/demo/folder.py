"""The demo's folder: one demo at a time in it, and nothing of anybody else is ever removed."""

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from sidecar import OpsError, UsageError

MARK = ".posthub-ops-demo"


@contextmanager
def fresh(folder: Path) -> Iterator[Path]:
    """The folder, emptied of an earlier demo's state, and held for the time of this one.

    Raises:
        UsageError: the folder has something else in it, or is not ours to write in.
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
        with _ours(folder):
            _empty(folder)
        yield folder


def _marked(folder: Path) -> IO[str]:
    """The open mark in the folder."""
    mark = folder / MARK
    with _ours(folder):
        folder.mkdir(parents=True, exist_ok=True)
        if not mark.exists() and any(folder.iterdir()):
            raise UsageError(
                f"--folder {folder} is not empty and not a demo's", hint="name an empty or a new folder"
            )
        return mark.open("w")


@contextmanager
def _ours(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UsageError(
            f"--folder {folder}: {error.filename}: {error.strerror}",
            hint="name a folder that you can write to",
        ) from None


def _empty(folder: Path) -> None:
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        elif entry.name != MARK:
            entry.unlink()
