"""Every wait obeys a stop request and the time limit of a run."""

import fcntl
import os
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from backup.cancellation import OutOfTimeError, Stop, StoppedError
from backup.hostlock import host_lock
from backup.physical.walsender import WalSender
from backup.pipeline import ChildSource
from backup.pipeline.child import run_child
from backup.postgres.dsn import parse
from backup.postgres.session import session
from backup.programs import clean_environment
from backup.redis.rdb import _Wire
from backup.run import run
from sidecar import UsageError
from stack.servers import Postgres
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


def test_a_server_that_does_not_answer_does_not_hold_up_a_stop(postgres: Postgres) -> None:
    """The kernel keeps the connections of a stopped process alive, so no time limit of a connection ends the wait."""
    stop, address = Stop(), parse(postgres.url)
    with stop.heeded(), session(address) as connection:
        threading.Timer(0.3, stop.request).start()
        began = time.monotonic()
        with pytest.raises(StoppedError):
            connection.execute("SELECT pg_sleep(600)")
        # The clean-up still has time.
        with session(address) as another:
            assert another.execute("SELECT 1").fetchone() == (1,)
    assert time.monotonic() - began < 60


def test_a_server_that_does_not_answer_does_not_hold_up_the_deadline(postgres: Postgres) -> None:
    stop = Stop()
    with stop.limit(0.5), session(parse(postgres.url)) as connection:
        with pytest.raises(OutOfTimeError):
            connection.execute("SELECT pg_sleep(600)")
        # The statement has ended, so a clean-up can use the same connection.
        assert connection.execute("SELECT 1").fetchone() == (1,)
    # Other connections are not affected.
    with session(parse(postgres.url)) as connection:
        assert connection.execute("SELECT pg_sleep(0.5), 1").fetchone() is not None


def stopping(seconds: float = 0.3) -> Stop:
    stop = Stop()
    threading.Timer(seconds, stop.request).start()
    return stop


def test_a_connection_for_the_wal_that_nobody_accepts() -> None:
    """The kernel accepts the connection, but no one answers."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = parse(f"postgresql://posthub@127.0.0.1:{silent.getsockname()[1]}/postgres")
        with pytest.raises(StoppedError):
            WalSender.connect(address, check=stopping().check)


@pytest.mark.parametrize("closed", ["exec >&-", "exec 2>&-", "exec >&- 2>&-"])
def test_a_program_that_closes_its_output_and_continues(closed: str) -> None:
    command = ["/bin/sh", "-c", f"{closed}; exec sleep 600"]
    with pytest.raises(StoppedError):
        run_child(command, env=clean_environment(), check=stopping().check)
    with (
        pytest.raises(StoppedError),
        ChildSource(command, env=clean_environment(), hint="none", check=stopping().check) as source,
    ):
        source.read()


def test_a_redis_that_falls_silent() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.send(b"$100\r\nREDIS")
        wire = _Wire(ours, stopping().check)
        assert wire.announcement() == b"$100"
        pieces = wire.exactly(100)
        assert next(pieces) == b"REDIS"
        with pytest.raises(StoppedError):
            next(pieces)


def test_a_lock_ends_with_its_block_even_after_an_error(tmp_path: Path) -> None:
    def refuse(_: float) -> None:
        raise AssertionError("the lock is still held")

    for name in ("a", "a", "b"):
        with suppress(ValueError), host_lock(tmp_path / "locks", name, refuse):
            raise ValueError
    with host_lock(tmp_path / "locks", "a", refuse), host_lock(tmp_path / "locks", "b", refuse):
        pass


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
