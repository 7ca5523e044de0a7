"""Running promtool and amtool."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from alerts.paths import ALERTS, TESTS


@dataclass(frozen=True)
class Outcome:
    """What a program said.

    Args:
        what: what was checked.
    """

    what: str
    ok: bool
    output: str


def promtool(*arguments: str, folder: Path = ALERTS, what: str = "promtool") -> Outcome:
    """Run promtool."""
    return _run("promtool", arguments, folder, what)


def amtool(*arguments: str, folder: Path = ALERTS, what: str = "amtool") -> Outcome:
    """Run amtool."""
    return _run("amtool", arguments, folder, what)


def rule_tests() -> list[Path]:
    """The files with promtool unit tests, those that take longest first."""
    return sorted(TESTS.glob("*.yml"), key=lambda path: -path.stat().st_size)


def run_rule_test(path: Path) -> Outcome:
    """Run one file of promtool unit tests."""
    return promtool("test", "rules", path.name, folder=path.parent, what=f"rule tests {path.stem}")


def _run(program: str, arguments: tuple[str, ...], folder: Path, what: str) -> Outcome:
    # The embedded programs are the checkout's; an image that only renders has neither them nor stack/.
    from stack.programs import find

    done = subprocess.run(
        [str(find(program)), *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    return Outcome(what, done.returncode == 0, (done.stdout + done.stderr).strip())
