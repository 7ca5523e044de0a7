"""What is stored twice, as pieces and as a whole segment, and how long anything waits. Time is a variable here."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from backup.cancellation import Stop
from backup.catalogue.signatures import NO_KEYS
from backup.errors import ReplicationError
from backup.physical import follower as under_test
from backup.physical.archive import Archive, Listing, Stored, WalObject
from backup.physical.measures import Measures
from backup.physical.resume import ResumePoint
from backup.physical.storage import Outlet
from backup.physical.uploads import Uploads
from backup.physical.walsender import TimelineEnd, Wal
from backup.pipeline import PackingOptions
from backup.store import MemoryStore
from tests.backup.walkit import SEGMENT, until

MIB = 1 << 20
ARCHIVE = Archive("main", "7", SEGMENT, NO_KEYS)


class Primary:
    """Sends a number of MiB in each second, and is the clock. Uploads take none of its time.

    Attributes:
        longest: the longest time for which anything was not stored.
    """

    def __init__(self, pace: list[int]) -> None:
        self.now = 100.0
        self.longest = 0.0
        self.uploads: Uploads
        self._messages = self._sent(pace)
        self._unstored: list[tuple[float, int]] = []

    def monotonic(self) -> float:
        return self.now

    def stream(self, *_: Any, **__: Any) -> "Primary":
        return self

    def read(self, *_: Any, **__: Any) -> Wal | TimelineEnd | None:
        return next(self._messages)

    def buffered(self) -> None:
        """Each message arrives alone."""

    def confirm(self, _: int, stored: int) -> None:
        while self._unstored and self._unstored[0][1] <= stored:
            self.longest = max(self.longest, self.now - self._unstored.pop(0)[0])

    def _sent(self, pace: list[int]) -> Iterator[Wal | TimelineEnd | None]:
        position = SEGMENT
        for mebibytes in pace:
            for _ in range(mebibytes):
                self.now += 1 / mebibytes
                position += MIB
                self._unstored.append((self.now, position))
                yield Wal(position - MIB, bytes(MIB), position, datetime.now(UTC))
                yield from self._stored()
            if not mebibytes:
                self.now += 1
                yield from self._stored()
        yield TimelineEnd(2, position)

    def _stored(self) -> Iterator[None]:
        yield None
        until(lambda: not self.uploads.outstanding, "everything is stored")
        yield None


def streamed(monkeypatch: pytest.MonkeyPatch, pace: list[int]) -> tuple[list[int], float]:
    """The sizes of all objects that were put, in MiB, and for how long anything was not stored."""
    sizes: list[int] = []

    def fault(operation: str, key: str) -> None:
        found = ARCHIVE.parse(Stored(key, 1, datetime.now(UTC)))
        if operation == "put" and isinstance(found, WalObject):
            sizes.append((found.end - found.start) // MIB)

    primary = Primary(pace)

    def uploads(*arguments: Any) -> Uploads:
        primary.uploads = Uploads(*arguments)
        return primary.uploads

    monkeypatch.setattr(under_test, "time", primary)
    monkeypatch.setattr(under_test, "Uploads", uploads)
    store = MemoryStore(fault=fault)
    outlet = Outlet(store, NO_KEYS, PackingOptions(), 1.0, lambda: datetime.now(UTC), lambda _: None)
    session = under_test.Follower("main", ARCHIVE, Listing(), outlet, Stop(), Measures())
    session.follow(primary, ResumePoint(1, SEGMENT))  # type: ignore[arg-type]
    return sizes, primary.longest


def test_a_burst_is_stored_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is packed twice, although each segment takes longer than the interval."""
    sizes, longest = streamed(monkeypatch, [8] * 8)
    assert sizes == [16] * 4
    assert longest <= 2


def test_a_burst_that_ends_is_waited_for_only_once(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes, longest = streamed(monkeypatch, [8, 1, 0, 0, 0])
    assert sizes == [9]
    assert longest <= 2


def test_a_slow_pace_is_stored_within_the_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes, longest = streamed(monkeypatch, [2] * 4)
    assert sum(sizes) == 8
    assert longest <= 1


class Commits:
    """Sends a message for each of many commits, all read together, and then its connection is lost."""

    def __init__(self, count: int) -> None:
        self.messages = [
            Wal(SEGMENT + n, bytes([n % 256]), SEGMENT + n + 1, datetime.now(UTC)) for n in range(count)
        ]

    def stream(self, *_: Any, **__: Any) -> "Commits":
        return self

    def read(self, *_: Any, **__: Any) -> Wal:
        if not self.messages:
            raise ReplicationError("the connection was lost", hint="")
        return self.messages.pop(0)

    def confirm(self, received: int, stored: int) -> None:
        """The slot follows."""

    def buffered(self) -> Wal | None:
        return self.messages.pop(0) if self.messages else None


def test_what_was_read_together_is_counted_once_and_stored() -> None:
    """What the stream spends on each commit, the primary on the same processors lacks."""
    asked: list[datetime] = []
    store, measures = MemoryStore(), Measures()

    def clock() -> datetime:
        asked.append(datetime.now(UTC))
        return asked[-1]

    outlet = Outlet(store, NO_KEYS, PackingOptions(), 1.0, clock, lambda _: None)
    session = under_test.Follower("main", ARCHIVE, Listing(), outlet, Stop(), measures)
    with pytest.raises(ReplicationError, match="the connection was lost"):
        session.follow(Commits(1000), ResumePoint(1, SEGMENT))  # type: ignore[arg-type]
    assert len(asked) == 1
    assert (measures.received_bytes, measures.received, measures.latest) == (
        1000,
        SEGMENT + 1000,
        SEGMENT + 1000,
    )
    found = [ARCHIVE.parse(Stored(info.key, info.size, info.modified)) for info in store.walk("")]
    assert [(each.start, each.end) for each in found if isinstance(each, WalObject)] == [
        (SEGMENT, SEGMENT + 1000)
    ]
    assert measures.stored == SEGMENT + 1000
