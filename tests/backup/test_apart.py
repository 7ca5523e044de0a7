"""Decryption in a separate process: the same bytes and errors, and nothing is left behind."""

import io
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backup.cancellation import Stop, StoppedError
from backup.errors import NoIdentityError, StoreError, VerificationError
from backup.pipeline import apart, decryptor
from backup.pipeline.apart import decrypt_apart
from backup.pipeline.child import start
from backup.pipeline.encrypt import Identity, decrypt
from sidecar import OpsError

pyrage = pytest.importorskip("pyrage")
MIB = 1 << 20
PLAIN = random.Random(1).randbytes(5 * MIB)
IDENTITY = pyrage.x25519.Identity.generate()


def sealed(plain: bytes, identity: Identity = IDENTITY) -> bytes:
    return bytes(pyrage.encrypt(plain, [identity.to_public()]))


SEALED = sealed(PLAIN)


def processes() -> list[psutil.Process]:
    return [each for each in psutil.Process().children() if decryptor.__file__ in each.cmdline()]


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def kill() -> None:
    processes()[0].kill()


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """No process and no descriptor may be left."""
    before = descriptors()
    yield
    assert processes() == []
    assert descriptors() <= before


class Pieces:
    """A reader that calls a function once it was read to the middle."""

    def __init__(
        self, data: bytes, in_the_middle: Callable[[], object] = lambda: None, size: int = MIB
    ) -> None:
        self._data, self._middle = memoryview(data), len(data) // 2
        self._act, self._size = in_the_middle, size

    def read(self, size: int = -1, /) -> bytes:
        if len(self._data) <= self._middle:
            self._middle = -1
            self._act()
        piece, self._data = self._data[: self._size], self._data[self._size :]
        return bytes(piece)


@settings(max_examples=10, deadline=None)
@given(
    st.sampled_from([0, 1, 65_535, 65_536, 65_537, MIB, 3_000_000]), st.sampled_from([7_000, 65_552, 2 * MIB])
)
def test_the_bytes_are_the_same(length: int, size: int) -> None:
    plain = io.BytesIO()
    decrypt_apart(Pieces(sealed(PLAIN[:length]), size=size), plain, [IDENTITY])
    assert plain.getvalue() == PLAIN[:length]


def test_any_of_several_keys_is_tried() -> None:
    plain = io.BytesIO()
    decrypt_apart(Pieces(SEALED), plain, [pyrage.x25519.Identity.generate(), IDENTITY])
    assert plain.getvalue() == PLAIN


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (sealed(b"x", pyrage.x25519.Identity.generate()), NoIdentityError),
        (b"", NoIdentityError),
        (SEALED[:100], NoIdentityError),
        (SEALED[: 3 * MIB], VerificationError),
        (SEALED[: 3 * MIB] + b"\0" + SEALED[3 * MIB + 1 :], VerificationError),
        (SEALED + b"more", VerificationError),
    ],
    ids=["another key", "empty", "a part of the header", "truncated", "changed", "extended"],
)
def test_failures_are_the_same(data: bytes, kind: type[OpsError]) -> None:
    with pytest.raises(VerificationError) as here:
        decrypt(io.BytesIO(data), io.BytesIO(), [IDENTITY])
    with pytest.raises(VerificationError) as elsewhere:
        decrypt_apart(Pieces(data), io.BytesIO(), [IDENTITY])
    assert (type(elsewhere.value), elsewhere.value.message) == (type(here.value), here.value.message)
    assert type(here.value) is kind


def test_a_killed_process_says_nothing_about_the_backup() -> None:
    plain = io.BytesIO()
    with pytest.raises(OpsError, match="the process that decrypts was killed by signal 9") as caught:
        decrypt_apart(Pieces(SEALED, kill), plain, [IDENTITY])
    assert not isinstance(caught.value, VerificationError)
    assert PLAIN.startswith(plain.getvalue())


def test_a_process_that_cannot_start_is_a_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decryptor, "__file__", str(tmp_path / "missing.py"))
    with pytest.raises(OpsError, match=r"exited with status 2: .*No such file"):
        decrypt_apart(Pieces(SEALED), io.BytesIO(), [IDENTITY])


def test_a_store_that_fails_ends_the_process() -> None:
    def fail() -> None:
        raise StoreError("the store is gone", hint="", operation="get")

    with pytest.raises(StoreError, match="is gone"):
        decrypt_apart(Pieces(SEALED, fail), io.BytesIO(), [IDENTITY])


def test_a_writer_that_fails_ends_the_process() -> None:
    class Full(io.BytesIO):
        def write(self, _: object, /) -> int:
            raise OSError("the disk is full")

    with pytest.raises(OSError, match="the disk is full"):
        decrypt_apart(Pieces(SEALED), Full(), [IDENTITY])


def test_a_frozen_process_ends_on_request() -> None:
    stop = Stop()

    def freeze() -> None:
        processes()[0].send_signal(signal.SIGSTOP)
        stop.request()

    with stop.heeded(), pytest.raises(StoppedError):
        decrypt_apart(Pieces(SEALED, freeze), io.BytesIO(), [IDENTITY])


def test_the_key_is_in_no_argument_and_no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked of the program that starts it: an ordinary user cannot read the environment of a process that hides its memory."""
    passed: list[str] = []

    def begin(command: list[str], *, env: dict[str, str], **options: Any) -> "subprocess.Popen[bytes]":
        passed.extend([*command, *(f"{name}={value}" for name, value in env.items())])
        return start(command, env=env, **options)

    monkeypatch.setattr(apart, "start", begin)
    monkeypatch.setenv("BACKUP_AGE_IDENTITY", str(IDENTITY))
    decrypt_apart(Pieces(SEALED), io.BytesIO(), [IDENTITY])
    assert decryptor.__file__ in passed
    assert str(IDENTITY) not in " ".join(passed)


LOOK = """
import ctypes, os, runpy, sys
PR_GET_DUMPABLE = 3
os.write = lambda *_: sys.exit(ctypes.CDLL(None).prctl(PR_GET_DUMPABLE))
runpy.run_path(sys.argv[1], run_name="__main__")
"""


def test_its_memory_is_closed_before_it_asks_for_the_keys() -> None:
    command = [sys.executable, "-I", "-c", LOOK, decryptor.__file__]
    assert subprocess.run(command, stdin=subprocess.DEVNULL, check=False).returncode == 0
