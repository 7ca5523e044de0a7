"""However and whenever a process ends, its throwaway servers and their folders are removed."""

import errno
import os
import secrets
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest

from backup.cancellation import StoppedError
from backup.errors import DumpError, VerificationError
from backup.load import throwaway
from backup.load.throwaway import (
    PREFIX,
    SERVER,
    cluster,
    fill,
    private_folder,
    running_in,
    sweep_folders,
)
from backup.pipeline import ChildSource, child
from backup.pipeline.child import run_child
from backup.postgres import roles
from backup.programs import Programs
from backup.rounds import Round
from sidecar import UsageError
from stack.paths import ROOT
from stack.programs import postgres_bin
from stack.servers.postgres import USER
from stack.wait import wait_for


@pytest.fixture(autouse=True)
def interruptible() -> Iterator[None]:
    """A background process of a shell ignores SIGINT from its start."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def interrupting(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a function with a signal before and after it."""

    def interrupted(*arguments: Any, **more: Any) -> Any:
        signal.raise_signal(signal.SIGINT)
        done = function(*arguments, **more)
        signal.raise_signal(signal.SIGINT)
        return done

    return interrupted


@pytest.mark.parametrize("place", ["mkdir", "open", "rename"])
def test_a_signal_while_the_folder_is_created(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.setattr(Path, place, interrupting(getattr(Path, place)))
    with pytest.raises(KeyboardInterrupt), private_folder(tmp_path):
        pass
    monkeypatch.undo()
    assert list(tmp_path.iterdir()) == []


def test_a_signal_while_the_folder_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also at the end of a successful verification, when most files exist."""

    def use() -> None:
        with private_folder(tmp_path) as folder:
            (folder / "rows").write_text("of a database")
            monkeypatch.setattr(shutil, "rmtree", interrupting(shutil.rmtree))

    with pytest.raises(KeyboardInterrupt):
        use()
    assert list(tmp_path.iterdir()) == []


def test_a_signal_between_the_work_and_its_end(tmp_path: Path) -> None:
    """If nothing delays the signal, the folder is removed when the process ends."""
    script = f"""
import signal, sys
from pathlib import Path
from backup.errors import DumpError, VerificationError
from backup.load import throwaway
def lost():
    signal.raise_signal(signal.SIGINT)
throwaway.uninterrupted = lost
with throwaway.private_folder(Path({str(tmp_path)!r})) as folder:
    (folder / "rows").write_text("of a database")
    print("made", flush=True)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stdout == "made\n", done.stderr
    assert "KeyboardInterrupt" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_folder_around_it_is_created(tmp_path: Path) -> None:
    with private_folder(tmp_path / "new" / "work") as folder:
        assert folder.parent == tmp_path / "new" / "work"
    assert list((tmp_path / "new" / "work").iterdir()) == []


def test_programs_in_the_folder_are_killed_too(tmp_path: Path) -> None:
    """Restored content may have started a program that outlives its server, and locked its own folder."""
    with private_folder(tmp_path) as folder:
        locked = folder / "data" / "locked"
        locked.mkdir(parents=True)
        (locked / "file").touch()
        locked.chmod(0)
        daemon = subprocess.Popen(["sleep", "600"], cwd=folder / "data", start_new_session=True)
        assert running_in(folder) == [daemon.pid]
    assert daemon.wait(10) == -signal.SIGKILL
    assert list(tmp_path.iterdir()) == []


def test_a_sweep_removes_only_unused_folders(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "owner").touch()
    work = tmp_path / "work"
    work.mkdir()
    (work / f"{PREFIX}link").symlink_to(elsewhere)
    (work / f"{PREFIX}dead").mkdir()
    (work / f"{PREFIX}dead" / "owner").touch()
    with private_folder(work) as mine:
        assert sweep_folders(work) == 1
        assert {file.name for file in work.iterdir()} == {mine.name, f"{PREFIX}link"}
    assert elsewhere.exists()


def test_a_folder_that_cannot_be_removed_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(throwaway, "STOP_SECONDS", 0.1)
    monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: None)
    with private_folder(tmp_path) as folder:
        pass
    assert f"{folder} cannot be removed" in caplog.text


@pytest.mark.parametrize(
    ("number", "module", "package"),
    [
        (signal.SIGINT, "sidecar.version", "backup"),
        (signal.SIGINT, "sidecar.signals", "backup"),
        (signal.SIGINT, "backup.cli", "backup"),
        (signal.SIGTERM, "backup.cli", "backup"),
        (signal.SIGHUP, "backup.cli", "backup"),
        (signal.SIGINT, "alerts.cli", "alerts"),
        (signal.SIGINT, "exporters.cli", "exporters"),
        (signal.SIGINT, "adopt.cli", "adopt"),
        (signal.SIGINT, "dashboards.live_check", "dashboards"),
        (signal.SIGINT, "stack.cli", "stack"),
        (signal.SIGINT, "bench.backup", "bench"),
        (signal.SIGINT, "sidecar.cli", "posthub_ops"),
    ],
)
def test_a_signal_while_the_command_is_loaded(number: signal.Signals, module: str, package: str) -> None:
    """There is no traceback once Python runs our code."""
    script = f"""
import os, sys, runpy
class Loader:
    def find_spec(self, name, path=None, target=None):
        if name == "{module}":
            os.kill(os.getpid(), {int(number)})
sys.meta_path.insert(0, Loader())
sys.argv[1:] = ["alerts"] if "{package}" == "posthub_ops" else []
runpy.run_module("{package}", run_name="__main__", alter_sys=True)
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env=dict(os.environ),
    )
    assert done.returncode == 130, done
    assert "Traceback" not in done.stderr


def test_the_folder_around_it_keeps_its_mode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The default is /tmp, whose mode must not change if a removal does not succeed at once."""
    tmp_path.chmod(0o1777)
    remove, failed = os.rmdir, list[str]()

    def rmdir(path: str, **more: Any) -> None:
        if not failed and Path(path).parent == tmp_path:
            failed.append(path)
            raise OSError(errno.ENOTEMPTY, "a file appeared meanwhile")
        remove(path, **more)

    monkeypatch.setattr(os, "rmdir", rmdir)
    with private_folder(tmp_path) as folder:
        (folder / "rows").write_text("of a database")
    assert failed
    assert not folder.exists()
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o1777


@pytest.mark.parametrize("length", [66, 67])
def test_a_path_that_is_too_long_for_a_socket_is_refused_before_anything_is_done(length: int) -> None:
    parent = Path("/" + "x" * (length - 1))
    if length == 66:
        throwaway.check_path(parent)
    else:
        with pytest.raises(UsageError, match="too long for the socket of a PostgreSQL server, by 1 bytes"):
            throwaway.check_path(parent)


def test_a_program_that_prints_endlessly() -> None:
    """Restored content can raise notices in a loop, and lines of any length."""
    script = (
        "import sys\n"
        "sys.stderr.write('begin\\n' + 'x' * (50 << 20) + '\\n')\n"
        "for number in range(200_000): sys.stderr.write(f'NOTICE: {number}\\n')\n"
        "sys.stderr.write('end')\n"
    )
    ended = run_child([sys.executable, "-c", script], env={})
    assert (ended.status, ended.errors[0], ended.errors[-1]) == (0, "begin", "end")
    assert len(ended.errors) == 4001
    assert ended.errors[2000] == "(196003 lines are left out)"
    assert max(map(len, ended.errors)) == 8192
    with ChildSource([sys.executable, "-c", script + "sys.exit(3)"], env={}, hint="") as source:
        with pytest.raises(DumpError) as raised:
            source.read()
        assert len(raised.value.message) < 400_000


def test_far_too_many_roles_are_not_read(tmp_path: Path) -> None:
    with (tmp_path / "globals").open("wb") as file:
        file.truncate(roles.MAX_BYTES + 1)
    with pytest.raises(VerificationError, match="at most 67108864 are read"):
        roles.read(tmp_path / "globals")


def test_a_folder_that_is_being_removed_is_not_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other process would find half of its files missing, and warn that it cannot be removed."""
    remove, swept = throwaway._remove, []

    def removing(folder: Path) -> None:
        if folder.exists():
            swept.append(throwaway.sweep_folders(tmp_path))
        remove(folder)

    monkeypatch.setattr(throwaway, "_remove", removing)
    with private_folder(tmp_path):
        pass
    assert swept == [0]
    assert list(tmp_path.iterdir()) == []


def test_the_servers_of_the_tests_are_copies(programs: Path) -> None:
    """They cost a quarter of a new one. A change of its options must not undo that."""

    def identity(data: Path) -> str:
        command = [programs / "pg_controldata", data]
        printed = subprocess.run(command, capture_output=True, text=True, check=True, env={"LC_ALL": "C"})
        return printed.stdout.partition("system identifier:")[2].split()[0]

    with cluster(Programs(programs), superuser=USER) as server:
        assert identity(server.folder / SERVER / "data") == identity(programs.with_name("template"))


@pytest.fixture
def initialised(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders in which initdb has run."""
    folders: list[Path] = []
    real = throwaway._initialise

    def noting(programs: Programs, folder: Path, superuser: str, check: Callable[[], None]) -> None:
        folders.append(folder)
        real(programs, folder, superuser, check)

    monkeypatch.setattr(throwaway, "_initialise", noting)
    return folders


def test_the_servers_of_a_round_are_copies_of_one(tmp_path: Path, initialised: list[Path]) -> None:
    programs, kept = Programs(postgres_bin()), Round()
    with kept.open(), kept.open():
        for number in range(2):
            with (
                cluster(programs, superuser="postgres", parent=tmp_path, kept=kept) as made,
                psycopg.connect(made.address.conninfo, autocommit=True) as connection,
            ):
                # What one of them restores is not in the next one.
                connection.execute("CREATE TABLE left_behind ()")
                connection.execute("CREATE ROLE left_behind")
                connection.execute("CREATE DATABASE restored TEMPLATE template0")
                connection.execute(f"ALTER SYSTEM SET work_mem = '{100 + number}MB'")
        assert len(initialised) == 1
    assert list(tmp_path.iterdir()) == []
    # Another superuser needs another one, and so does a server after the round.
    with kept.open(), cluster(programs, superuser="owner", parent=tmp_path, kept=kept):
        assert len(initialised) == 2
    fill(kept, programs, private(tmp_path), "postgres", tmp_path, lambda: None)
    assert len(initialised) == 3


def test_a_round_whose_template_cannot_be_made_or_copied(
    tmp_path: Path, initialised: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    programs, kept = Programs(postgres_bin()), Round()
    with kept.open():
        with pytest.raises(VerificationError, match="initdb failed"):
            fill(kept, programs, private(tmp_path), "pg_not_allowed", tmp_path, lambda: None)
        fill(kept, programs, private(tmp_path), "postgres", tmp_path, lambda: None)

        def full(source: str, target: str) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(shutil, "copyfile", full)
        with pytest.raises(VerificationError, match="No space left on device"):
            fill(kept, programs, private(tmp_path), "postgres", tmp_path, lambda: None)


def private(parent: Path) -> Path:
    """An empty folder for a server's data."""
    folder = parent / secrets.token_hex(4)
    folder.mkdir(mode=0o700)
    return folder


def test_the_workers_of_a_program_that_does_not_end_are_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pg_restore's workers wait for their server, whatever happens to pg_restore itself."""
    monkeypatch.setattr(child, "end", partial(child.end, seconds=0.3))
    worker = tmp_path / "worker"
    script = (
        f"trap '' TERM; sh -c 'trap \"\" TERM; echo $$ > {worker}; while :; do sleep 0.1; done' & wait; wait"
    )

    def stop() -> None:
        if worker.exists() and worker.read_text().strip():
            raise StoppedError("stopped on request", hint="run it again")

    with pytest.raises(StoppedError):
        run_child(["/bin/sh", "-c", script], env={"PATH": os.environ["PATH"]}, check=stop)
    pid = int(worker.read_text())
    wait_for(
        lambda: not Path(f"/proc/{pid}").exists() or Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z",
        timeout=60,
        what="the end of the worker",
        hint="it continues alone",
    )
