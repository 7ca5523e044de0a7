"""Writing past the page cache: the same bytes on every file system, and no failure is lost."""

import errno
import fcntl
import os
import random
from pathlib import Path

import pytest

from backup.physical import direct
from backup.physical.direct import DirectFile

SIZES = (0, 1, 4095, 4096, 4097, (4 << 20) - 1, 4 << 20, (4 << 20) + 8192, 9_000_001)
WRITE, FCNTL = os.write, fcntl.fcntl


def is_direct(handle: int) -> bool:
    return bool(FCNTL(handle, fcntl.F_GETFL) & os.O_DIRECT)


def written(path: Path, data: bytes, chance: random.Random) -> bytes:
    with DirectFile(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)) as file:
        left = memoryview(data)
        while left:
            count = chance.choice((1, 511, 70_000, 1 << 20, 5 << 20))
            file.write(left[:count])
            left = left[count:]
    return path.read_bytes()


def unknown(handle: int, command: int, value: int = 0) -> int:
    """A file system that does not know direct writes."""
    if command == fcntl.F_SETFL and value & os.O_DIRECT:
        raise OSError(errno.EINVAL, "Invalid argument")
    return FCNTL(handle, command, value)


def refused(handle: int, data: memoryview) -> int:
    """A file system that needs a larger alignment."""
    if is_direct(handle):
        raise OSError(errno.EINVAL, "Invalid argument")
    return WRITE(handle, data)


def partial(handle: int, data: memoryview) -> int:
    """A write that ends early, at an address that is not aligned."""
    return WRITE(handle, data[: max(len(data) - 100, 1)] if len(data) > 8192 else data)


@pytest.mark.parametrize("kind", ["as it is", "unknown", "refused", "partial"])
@pytest.mark.parametrize("size", SIZES)
def test_the_bytes_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, kind: str
) -> None:
    if kind == "unknown":
        monkeypatch.setattr(fcntl, "fcntl", unknown)
    elif kind != "as it is":
        monkeypatch.setattr(os, "write", {"refused": refused, "partial": partial}[kind])
    chance = random.Random(size)
    data = chance.randbytes(size)
    assert written(tmp_path / "file", data, chance) == data


def test_whole_blocks_are_written_directly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writes: list[tuple[int, bool]] = []

    def noted(handle: int, data: memoryview) -> int:
        writes.append((len(data), is_direct(handle)))
        return WRITE(handle, data)

    handle = os.open(tmp_path / "file", os.O_WRONLY | os.O_CREAT)
    monkeypatch.setattr(os, "write", noted)
    with DirectFile(handle) as file:
        if not is_direct(handle):
            pytest.skip("the file system of the tests does not know direct writes")
        file.write(memoryview(bytes((4 << 20) + 8192 + 1)))
    assert writes == [(4 << 20, True), (8192, True), (1, False)]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EINVAL])
def test_what_cannot_be_written_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def full(_: int, __: memoryview) -> int:
        raise OSError(code, os.strerror(code))

    handle = os.open(tmp_path / "file", os.O_WRONLY | os.O_CREAT)
    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match=os.strerror(code)), DirectFile(handle) as file:
        file.write(memoryview(bytes(direct.LEAST)))
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(handle)


def test_a_failure_of_the_block_writes_no_more(tmp_path: Path) -> None:
    handle = os.open(tmp_path / "file", os.O_WRONLY | os.O_CREAT)
    with pytest.raises(KeyError), DirectFile(handle) as file:  # noqa: PT012 - the failure is inside the block
        file.write(memoryview(b"some"))
        raise KeyError
    assert (tmp_path / "file").read_bytes() == b""
