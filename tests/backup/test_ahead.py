"""Reading ahead: the same pieces, the same errors, no thread left behind."""

import hashlib
import threading
from collections.abc import Iterator
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backup.ahead import ahead


def readers() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "read ahead"]


@given(st.lists(st.binary(max_size=5), max_size=30), st.integers(1, 4))
def test_pieces_come_whole_and_in_order_and_are_seen(pieces: list[bytes], limit: int) -> None:
    digest = hashlib.sha256()
    assert list(ahead(iter(pieces), seen=digest.update, limit=limit)) == pieces
    assert digest.digest() == hashlib.sha256(b"".join(pieces)).digest()
    assert readers() == []


def test_an_error_comes_after_the_pieces_before_it() -> None:
    def breaking() -> Iterator[bytes]:
        yield b"one"
        yield b"two"
        raise OSError("gone")

    pieces = ahead(breaking(), seen=lambda _: None)
    assert [next(pieces), next(pieces)] == [b"one", b"two"]
    with pytest.raises(OSError, match="gone"):
        next(pieces)
    assert readers() == []


def test_who_stops_early_leaves_no_thread_behind() -> None:
    endless = ahead((b"more" for _ in count()), seen=lambda _: None, limit=2)
    assert next(endless) == b"more"
    endless.close()
    assert readers() == []
