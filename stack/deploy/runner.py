"""Starting docker, kubectl and git."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from sidecar import OpsError
from stack.doctor.host import Done

SECONDS = 1800.0


class Runner:
    """Runs programs in the checkout.

    Args:
        dry: print commands instead of running them.
    """

    def __init__(self, root: Path, *, dry: bool = False) -> None:
        self._root, self.dry = root, dry

    def run(
        self, *command: str, environment: Mapping[str, str] | None = None, given: str | None = None
    ) -> Done:
        """Run a program to its end. ``given`` is its standard input."""
        if self.dry:
            print("$", *(f"{name}={value}" for name, value in (environment or {}).items()), *command)
            return Done(0, "")
        return self.ask(*command, environment=environment, given=given)

    def ask(
        self, *command: str, environment: Mapping[str, str] | None = None, given: str | None = None
    ) -> Done:
        """Run a program that only reads, in a dry run too."""
        try:
            done = subprocess.run(
                command,
                cwd=self._root,
                env={**os.environ, **(environment or {})},
                input=given or "",
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

    def must(
        self, *command: str, environment: Mapping[str, str] | None = None, given: str | None = None
    ) -> str:
        """The output of a program that has to succeed.

        Raises:
            OpsError: it did not.
        """
        return _output(command, self.run(*command, environment=environment, given=given))

    def must_tell(self, *command: str) -> str:
        """As ``must``, for a program that only reads."""
        return _output(command, self.ask(*command))


def _output(command: tuple[str, ...], done: Done) -> str:
    if done.code != 0:
        lines = (done.errors or done.output).strip().splitlines()[-5:]
        raise OpsError(
            f"`{' '.join(command)}` failed ({done.code}): {' / '.join(lines) or 'no output'}",
            hint="run it by hand to see the whole output",
        )
    return done.output
