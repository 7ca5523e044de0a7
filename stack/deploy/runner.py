"""Runs docker, kubectl and git."""

import os
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

from sidecar import OpsError
from stack.doctor.host import Done

SECONDS = 1800.0

# Prints a line about the progress.
Say = Callable[[str], None]


class Runner:
    """Runs programs in the checkout.

    Args:
        dry: print commands instead of running them.
    """

    def __init__(self, root: Path, *, dry: bool = False) -> None:
        self._root, self.dry = root, dry

    def run(
        self, *command: str, environment: Mapping[str, str] | None = None, stdin: str | None = None
    ) -> Done:
        """Run a program and wait for it. ``stdin`` is its standard input."""
        if self.dry:
            print("$", *(f"{name}={value}" for name, value in (environment or {}).items()), *command)
            return Done(0, "")
        return self.query(*command, environment=environment, stdin=stdin)

    def query(
        self, *command: str, environment: Mapping[str, str] | None = None, stdin: str | None = None
    ) -> Done:
        """Run a program that changes nothing, even in a dry run."""
        try:
            done = subprocess.run(
                command,
                cwd=self._root,
                env={**os.environ, **(environment or {})},
                input=stdin or "",
                capture_output=True,
                text=True,
                timeout=SECONDS,
                check=False,
            )
        except FileNotFoundError:
            return Done(127, "", f"{command[0]}: program not found")
        except subprocess.TimeoutExpired:
            return Done(124, "", f"took longer than {SECONDS:g} s")
        return Done(done.returncode, done.stdout, done.stderr)

    def require(
        self, *command: str, environment: Mapping[str, str] | None = None, stdin: str | None = None
    ) -> str:
        """The output of a program that must succeed.

        Raises:
            OpsError: it failed.
        """
        return _output(command, self.run(*command, environment=environment, stdin=stdin))

    def require_query(self, *command: str) -> str:
        """As :meth:`require`, for a program that changes nothing."""
        return _output(command, self.query(*command))


def _output(command: tuple[str, ...], done: Done) -> str:
    if done.code != 0:
        lines = (done.errors or done.output).strip().splitlines()[-5:]
        raise OpsError(
            f"`{' '.join(command)}` failed ({done.code}): {' / '.join(lines) or 'no output'}",
            hint="run it by hand to see the full output",
        )
    return done.output
