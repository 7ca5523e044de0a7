"""The backup sidecar's commands, run next to its service as an on-call engineer would run them."""

import json
import sys
from pathlib import Path
from typing import Any

from sidecar import OpsError
from stack.suite import Suite
from stack.suite.commands import run_command
from stack.suite.environments import BUCKET

FAILED = 1


class Backups:
    """``python -m backup`` on the suite's database and store."""

    def __init__(self, suite: Suite) -> None:
        self._suite = suite

    def run(self) -> dict[str, Any]:
        """Take a backup; returns its summary."""
        return self._command("run")

    def verify(self, backup_id: str) -> dict[str, Any]:
        """Prove a backup by a restore; returns the report, also when the proof failed."""
        return self._command("verify", backup_id, accept=(0, FAILED))

    def damage(self, backup_id: str) -> Path:
        """Flip one byte in the middle of the backup's archive in the store; returns the file.

        Raises:
            OpsError: the archive is not there.
        """
        folder = self._suite.store.objects / BUCKET
        archive = max(
            (path for path in folder.rglob(f"{backup_id}/*") if path.is_file()),
            key=lambda path: path.stat().st_size,
            default=None,
        )
        if archive is None:
            raise OpsError(
                f"no object of backup {backup_id} below {folder}", hint="look at the store's folder"
            )
        flip(archive)
        return archive

    def _command(self, *arguments: str, accept: tuple[int, ...] = (0,)) -> dict[str, Any]:
        printed = run_command(
            [sys.executable, "-m", "backup", *arguments, "--json"],
            env=self._suite.backup_environment(),
            log=self._suite.logs / "backup-commands.log",
            accept=accept,
        )
        try:
            document = json.loads(printed)
        except ValueError:
            raise OpsError(
                f"backup {arguments[0]} printed no JSON: {printed[:200]!r}",
                hint=f"read {self._suite.logs / 'backup-commands.log'}",
            ) from None
        # One document per database; the suite has one database.
        return dict(document[0] if isinstance(document, list) else document)


def flip(path: Path) -> None:
    """Change one bit of the byte in the middle of a file."""
    place = path.stat().st_size // 2
    with path.open("r+b") as file:
        file.seek(place)
        (byte,) = file.read(1)
        file.seek(place)
        file.write(bytes([byte ^ 0x01]))
