"""Read-ahead and write-behind: the same pieces, the same errors, no thread left over."""

import hashlib
import threading
from collections.abc import Iterator
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backup.pipeline.encrypt import Reader
from backup.pipeline.readahead import GATHERED, BackgroundWriter, read_ahead


def threads() -> list[str]:
    return [
        thread.name for thread in threading.enumerate() if thread.name in ("read read_ahead", "work behind")
    ]


@given(st.lists(st.binary(max_size=5), max_size=30), st.integers(1, 4))
def test_pieces_come_whole_and_in_order_and_are_seen(pieces: list[bytes], limit: int) -> None:
    digest = hashlib.sha256()
    assert list(read_ahead(iter(pieces), seen=digest.update, limit=limit)) == pieces
    assert digest.digest() == hashlib.sha256(b"".join(pieces)).digest()
    assert threads() == []


def test_an_error_is_raised_after_the_pieces_before_it() -> None:
    def breaking() -> Iterator[bytes]:
        yield b"one"
        yield b"two"
        raise OSError("gone")

    pieces = read_ahead(breaking(), seen=lambda _: None)
    assert [next(pieces), next(pieces)] == [b"one", b"two"]
    with pytest.raises(OSError, match="gone"):
        next(pieces)
    assert threads() == []


def test_a_reader_that_stops_early_leaves_no_thread() -> None:
    endless = read_ahead((b"more" for _ in count()), seen=lambda _: None, limit=2)
    assert next(endless) == b"more"
    endless.close()
    assert threads() == []


@given(st.lists(st.binary(max_size=2 * GATHERED), max_size=8), st.integers(1, 4))
def test_written_bytes_arrive_complete_and_in_order(pieces: list[bytes], limit: int) -> None:
    read: list[bytes] = []
    with BackgroundWriter(lambda source: read.extend(iter(source.read, b"")), limit=limit) as writer:
        assert [writer.write(piece) for piece in pieces] == [len(piece) for piece in pieces]
        writer.finish()
        assert b"".join(read) == b"".join(pieces)
    assert threads() == []


def test_unread_pieces_do_not_block() -> None:
    with BackgroundWriter(lambda source: source.read(), limit=1) as writer:
        for _ in range(10):
            writer.write(bytes(GATHERED))
        writer.finish()
    assert threads() == []


def test_a_failure_of_the_work_is_raised_by_write_and_finish() -> None:
    def fail(source: Reader) -> None:
        source.read()
        raise OSError("full")

    def write_on(writer: BackgroundWriter) -> None:
        while True:
            writer.write(bytes(GATHERED))

    with BackgroundWriter(fail, limit=2) as writer, pytest.raises(OSError, match="full"):
        write_on(writer)
    with BackgroundWriter(fail) as writer:
        writer.write(b"last")
        with pytest.raises(OSError, match="full"):
            writer.finish()
    assert threads() == []


def test_a_writer_that_fails_leaves_no_thread() -> None:
    def break_off() -> None:
        with BackgroundWriter(lambda source: source.read()) as writer:
            writer.write(b"more")
            raise KeyError

    with pytest.raises(KeyError):
        break_off()
    assert threads() == []
