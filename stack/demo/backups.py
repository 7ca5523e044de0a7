"""The backup sidecar's commands, run next to its service as an on-call engineer would run them."""

import json
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from sidecar import OpsError
from stack.suite import Suite
from stack.suite.commands import run_command
from stack.suite.environments import BUCKET, DATABASE_NAME, SERVER_NAME

FAILED = 1


class Backups:
    """``python -m backup`` on the suite's database and store."""

    def __init__(self, suite: Suite) -> None:
        self._suite = suite

    def run(self) -> dict[str, Any]:
        """Take a backup; returns its summary."""
        return self._command("run")

    def verify(self, backup_id: str) -> dict[str, Any]:
        """Prove a backup by a restore; returns the report, even if the proof failed."""
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
        return _printed(self._suite, self._suite.backup_environment(), arguments, accept)


class Recoveries:
    """``python -m backup`` on the suite's whole server: base backups, and its database as it was at a point in time."""

    def __init__(self, suite: Suite) -> None:
        self._suite = suite

    def base(self) -> dict[str, Any]:
        """Take a base backup; returns its summary."""
        return self._command("run", "-d", SERVER_NAME)

    def restore(self, moment: datetime) -> dict[str, Any]:
        """Restore the database as it was at a moment next to the live one, and compare; returns the summary."""
        return self._command("restore", SERVER_NAME, "--at", moment.isoformat(), "-d", DATABASE_NAME)

    def promote(self, restored: str) -> dict[str, Any]:
        """Swap a restored database into production; returns the summary."""
        return self._command("promote", restored, "-d", DATABASE_NAME, "--yes-i-mean", DATABASE_NAME)

    def _command(self, *arguments: str) -> dict[str, Any]:
        return _printed(self._suite, self._suite.recovery_environment(), arguments, (0,))


def _printed(
    suite: Suite, env: dict[str, str], arguments: Sequence[str], accept: Sequence[int]
) -> dict[str, Any]:
    log = suite.logs / "backup-commands.log"
    printed = run_command(
        [sys.executable, "-m", "backup", *arguments, "--json"], env=env, log=log, accept=accept
    )
    try:
        document = json.loads(printed)
    except ValueError:
        raise OpsError(
            f"backup {arguments[0]} printed no JSON: {printed[:200]!r}", hint=f"read {log}"
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
