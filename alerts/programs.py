"""Runs promtool and amtool."""

import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from alerts import promtool_tests
from alerts.paths import ALERTS
from sidecar import OpsError

# Returns the path of a program, given its name.
Finder = Callable[[str], Path]


@dataclass(frozen=True)
class Outcome:
    """The result of one run.

    Args:
        what: what was checked.
        output: stdout and stderr of the program.
    """

    what: str
    ok: bool
    output: str


@dataclass(frozen=True)
class Programs:
    """promtool and amtool.

    Args:
        find: finds a program; by default on PATH. ``./ops`` passes a finder that also downloads.
    """

    find: Finder

    def promtool(self, *arguments: str, folder: Path = ALERTS, what: str = "promtool") -> Outcome:
        """Run promtool in a folder."""
        return self._run("promtool", arguments, folder, what)

    def amtool(self, *arguments: str, folder: Path = ALERTS, what: str = "amtool") -> Outcome:
        """Run amtool in a folder."""
        return self._run("amtool", arguments, folder, what)

    def run_rule_test(self, path: Path) -> Outcome:
        """Run one file of promtool unit tests, each test with the rules that it needs."""
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            files = [str(each.relative_to(folder)) for each in promtool_tests.write(path, folder)]
            return self.promtool("test", "rules", *files, folder=folder, what=f"rule tests {path.stem}")

    def _run(self, program: str, arguments: tuple[str, ...], folder: Path, what: str) -> Outcome:
        done = subprocess.run(
            [str(self.find(program)), *arguments], cwd=folder, capture_output=True, text=True, check=False
        )
        return Outcome(what, done.returncode == 0, (done.stdout + done.stderr).strip())


def on_path(name: str) -> Path:
    """Find a program on PATH.

    Raises:
        OpsError: it is not there.
    """
    path = shutil.which(name)
    if path is None:
        raise OpsError(
            f"{name} is not on PATH",
            hint=f"install it, or run ./ops alerts, which downloads {name} on Debian",
        )
    return Path(path)
