"""Writing recovered data to the disk: all of it, whatever is in the folder, and no failure is lost."""

import errno
import os
import threading
from pathlib import Path

import pytest

from backup.cancellation import StoppedError, never
from backup.errors import RecoveryError
from backup.physical import flush
from backup.physical.flush import Flusher, sync_all


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """The inodes that were written to the disk."""
    inodes: set[int] = set()

    def sync(descriptor: int) -> None:
        inodes.add(os.fstat(descriptor).st_ino)

    monkeypatch.setattr(os, "fsync", sync)
    return inodes


def failing(_: int) -> None:
    raise OSError(errno.EIO, "Input/output error")


def test_all_files_and_folders_are_synced_and_no_link_is_followed(tmp_path: Path, synced: set[int]) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").touch()
    folder = tmp_path / "data"
    (folder / "base" / "1").mkdir(parents=True)
    (folder / "empty").mkdir()
    for number in range(3 * flush._TOGETHER):
        (folder / "base" / "1" / str(number)).touch()
    wanted = {path.stat().st_ino for path in (folder, *folder.rglob("*"))}
    # Code in the server may have made these. Opening a pipe would wait for its writer.
    (folder / "base" / "link").symlink_to(outside / "file")
    (folder / "folder").symlink_to(outside)
    os.mkfifo(folder / "pipe")
    sync_all(folder, never)
    assert synced == wanted


def test_what_cannot_be_written_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(bytes(1 << 20))
    monkeypatch.setattr(os, "fsync", failing)
    message = "could not be written to the disk: Input/output error"
    with pytest.raises(RecoveryError, match=message):
        sync_all(tmp_path, never)
    with pytest.raises(RecoveryError, match=message):
        flush.sync_folder(tmp_path)
    with Flusher() as flusher:
        flusher.add(tmp_path / "file", 1 << 20)
        with pytest.raises(RecoveryError, match=message):
            flusher.finish()


def test_a_link_that_takes_the_place_of_a_file_is_not_followed(tmp_path: Path, synced: set[int]) -> None:
    """Code in the server may replace a file after it was found."""
    outside, folder = tmp_path / "outside", tmp_path / "data"
    outside.touch()
    folder.mkdir()
    (folder / "file").touch()

    def replace() -> None:
        (folder / "file").unlink(missing_ok=True)
        (folder / "file").symlink_to(outside)

    with pytest.raises(RecoveryError, match="could not be written to the disk"):
        sync_all(folder, replace)
    assert outside.stat().st_ino not in synced


def test_a_sync_ends_on_request(tmp_path: Path, synced: set[int]) -> None:
    for number in range(2 * flush._TOGETHER):
        (tmp_path / str(number)).touch()

    def stop() -> None:
        if synced:
            raise StoppedError("stopped on request", hint="run it again")

    with pytest.raises(StoppedError):
        sync_all(tmp_path, stop)
    assert len(synced) == flush._TOGETHER


def test_a_failure_elsewhere_does_not_wait_for_the_files_that_are_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on, done = threading.Event(), threading.Event(), []

    def slow(descriptor: int) -> None:
        begun.set()
        go_on.wait(10)
        done.append(descriptor)

    monkeypatch.setattr(os, "fsync", slow)
    (tmp_path / "file").touch()
    with pytest.raises(StoppedError), Flusher() as flusher:  # noqa: PT012 - the failure is inside the block
        for _ in range(3):
            flusher.add(tmp_path / "file", 1 << 20)
        assert begun.wait(10)
        threading.Timer(0.1, go_on.set).start()
        raise StoppedError("stopped on request", hint="run it again")
    assert len(done) == 1


def test_large_files_are_flushed_meanwhile(tmp_path: Path, synced: set[int]) -> None:
    sizes = {"large": 1 << 20, "small": (1 << 20) - 1}
    with Flusher() as flusher:
        for name, size in sizes.items():
            (tmp_path / name).touch()
            flusher.add(tmp_path / name, size)
        flusher.finish()
    assert synced == {(tmp_path / "large").stat().st_ino}
