"""Every wait obeys a stop request and the time limit of a run."""

import fcntl
import os
import threading
import time
from pathlib import Path

import pytest

from backup.cancellation import OutOfTimeError, Stop, StoppedError
from backup.hostlock import host_lock
from backup.run import run
from sidecar import UsageError
from tests.backup.conftest import Wire


def test_a_run_does_not_wait_forever_for_the_hosts_lock(
    wired: Wire, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    wiring = wired(BACKUP_TIMEOUT="2")
    wiring.lock_folder.mkdir()
    assert wiring.lock_folder.parent == tmp_path
    began = time.monotonic()
    with (wiring.lock_folder / f"{wiring.targets[0].name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(OutOfTimeError):
            run(wiring, wiring.targets[0])
    assert time.monotonic() - began < 30
    assert run(wired(), wiring.targets[0])


def test_a_request_to_stop_ends_the_wait(tmp_path: Path) -> None:
    stop = Stop()
    folder = tmp_path / "locks"
    with host_lock(folder, "a", stop.sleep):
        threading.Timer(0.3, stop.request).start()
        with pytest.raises(StoppedError), host_lock(folder, "a", stop.sleep):
            raise AssertionError("the lock was acquired twice")
    assert oct((folder / "a.lock").stat().st_mode)[-3:] == "600"


def test_a_folder_of_another_user_is_not_used(tmp_path: Path) -> None:
    stop = Stop()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with (
        pytest.raises(UsageError, match="cannot be used for locks"),
        host_lock(tmp_path / "link", "a", stop.sleep),
    ):
        pass
    assert list((tmp_path / "elsewhere").iterdir()) == []
    ours = tmp_path / "ours"
    ours.mkdir()
    (ours / "a.lock").symlink_to(tmp_path / "elsewhere" / "file")
    with pytest.raises(UsageError, match="cannot be used for locks"), host_lock(ours, "a", stop.sleep):
        pass
    if os.geteuid() != 0:
        pytest.skip("the owner of a folder can be tested only as root: sudo ./ops test")
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    os.chown(theirs, 12345, 12345)
    with pytest.raises(UsageError, match="belongs to user 12345"), host_lock(theirs, "a", stop.sleep):
        pass
