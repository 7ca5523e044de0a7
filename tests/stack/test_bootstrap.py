"""The first start, in a separate checkout: what is created, what is recreated, and the errors if that fails.

A fake module ``venv`` creates a folder with a program that prints pip's arguments.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from stack import bootstrap
from stack.wait import wait_for

VENV = """
import shutil, sys
from pathlib import Path
program = Path(sys.argv[1]) / "bin" / "python"
program.parent.mkdir(parents=True)
shutil.copy("{program}", program)
shutil.copy("{program}", program.parent / "uv")
"""
PROGRAM = """#!/bin/sh
echo "$*" >>{log}
case "$*" in
  *pip*) {pip} ;;
  *) echo "${{PGHOST-none}} ${{PYTHONDONTWRITEBYTECODE-none}}" ;;
esac
"""


class Checkout:
    """The parts of a checkout that the first start needs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "asked.log"
        self.modules = folder / "modules"
        for name in ("stack", "locks", "modules"):
            (folder / name).mkdir(parents=True)
        (folder / "stack" / "bootstrap.py").write_bytes(Path(bootstrap.__file__).read_bytes())
        self.lock("one")
        self.pip_does("exit 0")

    def lock(self, text: str) -> None:
        for name in ("dev", "demo", "uv"):
            (self.folder / "locks" / f"{name}.txt").write_text(f"{name} {text}")

    def pip_does(self, script: str) -> None:
        program = self.modules / "program"
        program.write_text(PROGRAM.format(log=self.log, pip=script))
        program.chmod(0o755)
        (self.modules / "venv.py").write_text(VENV.format(program=program))

    def begin(self, *words: str) -> "subprocess.Popen[str]":
        self.log.write_text("")
        return subprocess.Popen(
            [sys.executable, str(self.folder / "stack" / "bootstrap.py"), *(words or ("help", "demo"))],
            # Without compiled files, because a fake is rewritten within a second with the same size.
            env={
                "PATH": os.environ["PATH"],
                "PYTHONPATH": str(self.modules),
                "PYTHONDONTWRITEBYTECODE": "1",
                "PGHOST": "elsewhere",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def start(self, *words: str) -> "subprocess.CompletedProcess[str]":
        child = self.begin(*words)
        out, errors = child.communicate(timeout=60)
        return subprocess.CompletedProcess(child.args, child.returncode, out, errors)

    @property
    def asked(self) -> list[str]:
        """How the environment's Python was called at the last start, up to the first distinguishing argument."""
        return [
            f"install {Path(line.split()[-1]).stem}" if " install " in line else line
            for line in self.log.read_text().splitlines()
            if "config" not in line
        ]


def runs(pid: int) -> bool:
    """Whether there is such a process; a zombie does not count."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path / "checkout")


def test_the_first_start_installs_and_the_second_does_not(checkout: Checkout) -> None:
    first = checkout.start()
    assert first.returncode == 0, first.stderr
    assert checkout.asked == ["install uv", "install dev", "-m stack help demo"]
    second = checkout.start()
    assert checkout.asked == ["-m stack help demo"]
    assert second.stderr == ""


def test_a_changed_lock_is_installed_into_the_same_environment(checkout: Checkout) -> None:
    checkout.start()
    mark = checkout.folder / ".venv" / "mark"
    mark.touch()
    checkout.lock("two")
    checkout.start()
    assert checkout.asked == ["install uv", "install dev", "-m stack help demo"]
    assert mark.exists()


def test_without_venv_the_error_names_its_package(checkout: Checkout) -> None:
    (checkout.modules / "venv.py").write_text("import sys\nsys.exit('ensurepip is not available')")
    done = checkout.start()
    assert done.returncode == 1
    assert "Error: the virtual environment failed" in done.stderr
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert f"Try: apt-get install python{version}-venv" in done.stderr
    assert "Traceback" not in done.stderr


def test_without_a_network_it_fails_and_retries_at_the_next_start(checkout: Checkout) -> None:
    checkout.pip_does("echo no index; exit 1")
    done = checkout.start()
    assert done.returncode == 1
    assert "no index" in done.stderr
    assert "Try: check the network" in done.stderr
    checkout.pip_does("exit 0")
    assert checkout.start().returncode == 0
    assert checkout.asked == ["install uv", "install dev", "-m stack help demo"]


def test_variables_of_the_callers_shell_are_removed(checkout: Checkout) -> None:
    assert checkout.start().stdout == "none none\n"


def test_a_folder_that_cannot_be_written_is_named(checkout: Checkout) -> None:
    (checkout.folder / ".ops").touch()  # where a folder must be
    done = checkout.start()
    assert done.returncode == 1
    assert done.stderr.startswith(f"Error: File exists: {checkout.folder / '.ops'}\nTry: ")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=lambda one: one.name)
def test_an_interrupted_installation_ends_with_all_its_processes(
    checkout: Checkout, number: signal.Signals
) -> None:
    pids = checkout.folder / "pids"
    checkout.pip_does(f"sleep 60 & echo $$ $! >{pids}.new; mv {pids}.new {pids}; wait")
    child = checkout.begin()
    wait_for(pids.exists, timeout=150, what="pip", hint="see .ops/setup.log")
    other = checkout.begin()
    assert other.stderr is not None
    assert other.stderr.readline() == "another ./ops is installing into .venv; waiting for it\n"
    other.kill()
    child.send_signal(number)
    _, errors = child.communicate(timeout=30)
    assert child.returncode == 128 + number
    assert errors.endswith("Interrupted; run the same command again to resume\n")
    assert not any(runs(int(pid)) for pid in pids.read_text().split())
    checkout.pip_does("exit 0")
    assert checkout.start().returncode == 0
    assert checkout.asked == ["install uv", "install dev", "-m stack help demo"]


def test_the_demo_gets_no_tools_and_the_tools_are_enough_for_the_demo(checkout: Checkout) -> None:
    checkout.start("demo")
    assert checkout.asked == ["install uv", "install demo", "-m stack demo"]
    checkout.start("demo")
    assert checkout.asked == ["-m stack demo"]
    checkout.start("test")
    assert checkout.asked == ["install uv", "install dev", "-m stack test"]
    checkout.start("demo")
    assert checkout.asked == ["-m stack demo"]


FETCH = """
import os, time
from pathlib import Path
Path("fetching").write_text(str(os.getpid()))
while not Path("installing").exists():
    time.sleep(0.01)
Path("fetched").touch()
"""


def _fetches(checkout: Checkout, script: str) -> None:
    programs = checkout.folder / "stack" / "programs"
    programs.mkdir()
    (programs / "__main__.py").write_text(script)


def test_the_servers_programs_are_fetched_during_the_installation(checkout: Checkout) -> None:
    _fetches(checkout, FETCH)
    # Each waits for the other.
    here = checkout.folder
    checkout.pip_does(f"touch {here}/installing; while [ ! -e {here}/fetched ]; do sleep 0.01; done")
    assert checkout.start().returncode == 0


def test_an_installation_does_not_need_the_programs(checkout: Checkout) -> None:
    _fetches(checkout, "raise SystemExit('no network')")
    assert checkout.start().returncode == 0
    assert (checkout.folder / ".ops" / "programs.log").read_text() == "no network\n"


def test_a_failed_installation_ends_the_fetching(checkout: Checkout) -> None:
    _fetches(checkout, FETCH)
    fetching = checkout.folder / "fetching"
    checkout.pip_does(f"while [ ! -s {fetching} ]; do sleep 0.01; done; exit 1")
    assert checkout.start().returncode == 1
    assert not runs(int(fetching.read_text()))


def test_where_uv_fails_pip_installs(checkout: Checkout) -> None:
    checkout.pip_does('case "$0" in *uv) exit 1 ;; esac')
    assert checkout.start().returncode == 0
    assert checkout.asked == ["install uv", "install dev", "install dev", "-m stack help demo"]


def test_uv_gets_what_pip_is_configured_for(checkout: Checkout) -> None:
    checkout.pip_does(
        """case "$*" in *config*) echo "global.index-url='https://index.example/simple'" ;; esac
        case "$0" in *uv) echo "index $UV_DEFAULT_INDEX" >>"$PWD/asked.log" ;; esac"""
    )
    checkout.start()
    assert "index https://index.example/simple" in checkout.asked
