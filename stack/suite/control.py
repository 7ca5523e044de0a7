"""Controls a running suite from scripts: files in a folder do what ``docker compose`` does elsewhere.

If ``hold/NAME`` exists, the supervisor stops that part. ``running/NAME`` exists while the part runs and is ready.
``environment`` and ``app`` are for a shell: the variables that the sidecar's commands and manage.py need.
"""

import os
import shlex
from collections.abc import Mapping
from pathlib import Path


class Control:
    """The folder ``control`` of a suite."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, name: str, environment: Mapping[str, str]) -> None:
        """Write an environment for a shell, readable by its owner only."""
        for part in ("hold", "running"):
            (self._folder / part).mkdir(parents=True, exist_ok=True)
        lines = [f"export {key}={shlex.quote(value)}" for key, value in sorted(environment.items())]
        target = os.open(self._folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(target, "w") as file:
            file.write("\n".join(lines) + "\n")

    def stop_requested(self, name: str) -> bool:
        """Whether a script wants this part to be down."""
        return (self._folder / "hold" / name).exists()

    def report(self, name: str, *, running: bool) -> None:
        """Publish whether it runs."""
        file = self._folder / "running" / name
        if running and file.parent.is_dir():
            file.touch()
        else:
            file.unlink(missing_ok=True)
