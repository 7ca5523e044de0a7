"""The first start, in a checkout of its own: what is made, what is made again, and what is said when it cannot be.

The module ``venv`` is stood in for by one that makes a folder with a program that says what pip would be asked to do.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from stack import bootstrap

VENV = """
import sys
from pathlib import Path
program = Path(sys.argv[1]) / "bin" / "python"
program.parent.mkdir(parents=True)
program.write_text('#!/bin/sh\\necho "$*" >>{log}\\ncase "$*" in *pip*) echo no index; exit {code} ;; esac\\n')
program.chmod(0o755)
"""


class Checkout:
    """As much of one as the first start needs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "asked.log"
        self.modules = folder / "modules"
        for name in ("stack", "locks", "modules"):
            (folder / name).mkdir(parents=True)
        (folder / "stack" / "bootstrap.py").write_bytes(Path(bootstrap.__file__).read_bytes())
        self.lock("one")
        self.pip_ends(0)

    def lock(self, text: str) -> None:
        (self.folder / "locks" / "dev.txt").write_text(text)

    def pip_ends(self, code: int) -> None:
        (self.modules / "venv.py").write_text(VENV.format(log=self.log, code=code))

    def start(self) -> "subprocess.CompletedProcess[str]":
        self.log.write_text("")
        return subprocess.run(
            [sys.executable, str(self.folder / "stack" / "bootstrap.py"), "help", "demo"],
            # Without compiled files: the stand-in is written anew within a second, and is no longer than before.
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(self.modules), "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True, text=True,
        )  # fmt: skip

    @property
    def asked(self) -> list[str]:
        """What the environment's Python was called with at the last start, up to the first argument that tells it."""
        return ["install" if "pip" in line else line for line in self.log.read_text().splitlines()]


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path / "checkout")


def test_the_first_start_installs_and_the_second_does_not(checkout: Checkout) -> None:
    first = checkout.start()
    assert first.returncode == 0, first.stderr
    assert checkout.asked == ["install", "-m stack help demo"]
    second = checkout.start()
    assert checkout.asked == ["-m stack help demo"]
    assert second.stderr == ""


def test_another_lock_is_installed_into_the_same_environment(checkout: Checkout) -> None:
    checkout.start()
    mark = checkout.folder / ".venv" / "mark"
    mark.touch()
    checkout.lock("two")
    checkout.start()
    assert checkout.asked == ["install", "-m stack help demo"]
    assert mark.exists()


def test_without_the_module_venv_it_says_which_package_has_it(checkout: Checkout) -> None:
    (checkout.modules / "venv.py").write_text("import sys\nsys.exit('ensurepip is not available')")
    done = checkout.start()
    assert done.returncode == 1
    assert "Error: the virtual environment failed" in done.stderr
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert f"Try: apt-get install python{version}-venv" in done.stderr
    assert "Traceback" not in done.stderr


def test_without_a_network_it_says_so_and_tries_again_the_next_time(checkout: Checkout) -> None:
    checkout.pip_ends(1)
    done = checkout.start()
    assert done.returncode == 1
    assert "no index" in done.stderr
    assert "Try: check the network" in done.stderr
    checkout.pip_ends(0)
    assert checkout.start().returncode == 0
    assert checkout.asked == ["install", "-m stack help demo"]
