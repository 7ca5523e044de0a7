"""A benchmark whose command fails says why."""

from pathlib import Path

import pytest

from bench import commands
from sidecar import OpsError


def test_the_reason_of_a_failed_command_is_reported(environ: dict[str, str], tmp_path: Path) -> None:
    """From its JSON if it states one, otherwise from its messages."""
    with pytest.raises(OpsError, match=r"exit code 2: Error: unknown is not a .* database"):
        commands.backup(("run", "--database", "unknown"), environ)
    made, peak = commands.backup(("run",), environ)
    assert made["rows"] > 0
    assert peak > 0
    (folder := tmp_path / ("x" * 100)).mkdir()
    with pytest.raises(OpsError, match=r"failed with exit code 1: the path .* too long for the socket"):
        commands.backup(("verify", "latest"), {**environ, "BACKUP_WORK_DIR": str(folder)})
