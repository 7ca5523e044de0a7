"""What a service knows of the stored WAL, after each kind of growth, without listing all of it again."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import pytest

from backup.physical import lsn
from backup.physical.archive import Archive, Listing
from backup.physical.known import FEW, KnownWal
from backup.physical.upkeep import stored
from backup.store import MemoryStore

SIZE = 1 << 20
# Of a stream that follows the newest timeline.
NEWEST = 9
COUNT = FEW + 500


@dataclass
class Place:
    """A store with WAL, and what is known of it.

    Attributes:
        wholes: how often everything was listed.
        requests: prefixes that were listed in any way.
    """

    size: int = SIZE
    wholes: int = 0
    requests: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.store = MemoryStore(fault=self._request)
        self.archive = Archive("main", "7", self.size)
        self.known = KnownWal(self.store, "main", self._whole)

    def there(self) -> list[tuple[Archive, Listing]]:
        return [(self.archive, self.archive.listing(stored(self.store, "main")))]

    def put(self, segments: Iterable[int], timeline: int = 1, archive: Archive | None = None) -> None:
        for number in segments:
            start = number * self.size
            key = (archive or self.archive).wal_key(timeline, start, start + self.size, f"{number:064x}")
            self.store.put(key, b"")

    def put_piece(self, number: int) -> str:
        key = self.archive.wal_key(1, number * self.size, number * self.size + 100, "a" * 64)
        self.store.put(key, b"")
        return key

    def _whole(self) -> list[tuple[Archive, Listing]]:
        self.wholes += 1
        return self.there()

    def _request(self, operation: str, key: str) -> None:
        if operation == "list":
            self.requests.append(key)


def gap(place: Place) -> None:
    place.store.put(place.archive.gap_key(1, COUNT * SIZE, 2 * COUNT * SIZE), b"{}")
    place.put([2 * COUNT])


def promotion(place: Place) -> None:
    place.store.put(place.archive.history_key(2, "b" * 64), b"")
    place.put(range(COUNT - 1, COUNT + 2), timeline=2)


def whole_for_a_piece(place: Place) -> None:
    place.store.delete([place.put_piece(COUNT)])
    place.put([COUNT])


GROWTH: dict[str, Callable[[Place], object]] = {
    "nothing": lambda place: None,
    "a piece": lambda place: place.put_piece(COUNT),
    "a whole segment for a piece": whole_for_a_piece,
    "many segments": lambda place: place.put(range(COUNT, COUNT + 100)),
    "one before the last": lambda place: place.put([COUNT + 1, COUNT]),
    "a timeline": promotion,
    "the history of the timeline": lambda place: place.store.put(place.archive.history_key(1, "c" * 64), b""),
    "a gap": gap,
    "another cluster": lambda place: place.put([1], archive=Archive("main", "8", SIZE)),
    "a deleted timeline": lambda place: place.store.delete(list(place.store.objects)[:-1]),
}
REST = {"a gap", "another cluster", "a deleted timeline"}


@pytest.mark.parametrize("growth", GROWTH)
def test_growth_is_found(growth: str) -> None:
    place = Place()
    place.put(range(COUNT))
    if growth == "a deleted timeline":
        place.put([COUNT], timeline=2)
    place.put_piece(COUNT)
    assert place.known.read(NEWEST) == place.there()
    GROWTH[growth](place)
    wanted = place.there()
    place.requests.clear()
    assert place.known.read(NEWEST) == wanted
    assert place.wholes == (2 if growth in REST else 1)
    assert len(place.requests) < 16


def test_the_end_of_each_stretch_is_looked_at() -> None:
    """A hole that is filled later is behind the end of the WAL."""
    place = Place()
    place.put([*range(COUNT), *range(COUNT + 200, COUNT + 300)])
    place.known.read(NEWEST)
    place.put(range(COUNT, COUNT + 100))
    assert place.known.read(NEWEST) == place.there()
    assert place.wholes == 1


def test_pieces_that_are_replaced_behind_the_end_are_found() -> None:
    """Uploads overtake each other, so the last segment may be stored before the one in front of it is whole."""
    place, number = Place(), COUNT // 16 * 16
    place.put([*range(number - 1), number])
    middle = number * SIZE - SIZE // 2
    pieces = [
        place.archive.wal_key(1, start, end, "a" * 64)
        for start, end in ((middle - SIZE // 2, middle), (middle, middle + SIZE // 2))
    ]
    for key in pieces:
        place.store.put(key, b"")
    assert place.known.read(NEWEST) == place.there()
    place.store.delete(pieces)
    place.put([number - 1])
    assert place.known.read(NEWEST) == place.there()
    assert place.wholes == 1


def test_many_holes_and_little_wal_are_listed_whole() -> None:
    holes, few = Place(), Place()
    holes.put(number for number in range(COUNT + 100) if number % 500)
    few.put(range(10))
    for place in (holes, few):
        for _ in range(2):
            assert place.known.read(NEWEST) == place.there()
        assert place.wholes == 2


def test_what_was_deleted_is_found_after_forgetting() -> None:
    place = Place()
    place.put(range(COUNT))
    place.known.read(NEWEST)
    place.store.delete([next(iter(place.store.objects))])
    place.known.forget()
    assert place.known.read(NEWEST) == place.there()


@pytest.mark.parametrize("size", [1 << 20, 16 << 20, 1 << 30])
def test_growth_is_found_with_segments_of_any_size(size: int) -> None:
    """The names of segments continue in the middle third after the last one of a log."""
    place, of_log = Place(size), lsn.segments_of_log(size)
    first = (COUNT // of_log + 1) * of_log - 3
    place.put(range(first))
    place.known.read(NEWEST)
    for number in range(first, first + 6):
        place.put([number])
        assert place.known.read(NEWEST) == place.there()
    assert place.wholes == 1


def test_a_timeline_that_grows_below_the_newest_is_found() -> None:
    """The stream followed a promoted standby, which was then given up."""
    place = Place()
    place.put(range(COUNT))
    place.put([COUNT], timeline=2)
    place.known.read(1)
    place.put([COUNT])
    assert place.known.read(1) == place.there()
