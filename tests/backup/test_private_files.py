"""Files with secrets: who can read them, and that a key is on the disk before anyone relies on it."""

import os
import stat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from backup.cli import keygen
from backup.postgres import children
from sidecar import OpsError, UsageError


def test_a_new_key_is_on_the_disk_and_only_its_owner_can_read_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, synced = tmp_path / "identity.txt", []
    sync = os.fsync

    def note(handle: int) -> None:
        synced.append(Path(f"/proc/self/fd/{handle}").read_text())
        sync(handle)

    monkeypatch.setattr(os, "fsync", note)
    before = os.umask(0)
    try:
        keygen._write(file, "AGE-SECRET-KEY-1\n")
    finally:
        os.umask(before)
    assert synced == ["AGE-SECRET-KEY-1\n"]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    with pytest.raises(UsageError, match="already exists"):
        keygen._write(file, "another")
    assert file.read_text() == "AGE-SECRET-KEY-1\n"


def test_half_a_key_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OpsError, match="cannot be written: No space left on device"):
        keygen._write(tmp_path / "identity.txt", "AGE-SECRET-KEY-1\n")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def _known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "login", lambda _: SimpleNamespace(version=180000, superuser=False))
    monkeypatch.setattr(children, "pinned", lambda _, **__: {})
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary")


def address(password: str) -> Any:
    return SimpleNamespace(password=password, options=lambda _: "-c row_security=off")


@pytest.mark.usefixtures("_known")
def test_a_child_reads_the_password_from_a_file_that_ends_with_it() -> None:
    with children.child_access(address(r"a:b\c")) as (environment, (handle,)):
        assert environment["PGPASSFILE"] == f"/proc/self/fd/{handle}"
        assert environment["PGOPTIONS"] == "-c row_security=off"
        assert os.pread(handle, 100, 0) == rb"*:*:*:*:a\:b\\c" + b"\n"
        assert stat.S_IMODE(os.fstat(handle).st_mode) == 0o600
        assert not any("a:b" in value or "canary" in value for value in environment.values())
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(handle)


@pytest.mark.usefixtures("_known")
def test_without_a_password_there_is_no_file() -> None:
    with children.child_access(address("")) as (environment, handles):
        assert "PGPASSFILE" not in environment
        assert handles == ()
