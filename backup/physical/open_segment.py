"""The segment of WAL that is being received."""

from dataclasses import dataclass


@dataclass
class OpenSegment:
    """The segment that is being filled.

    Attributes:
        received: the position up to which it was received.
        cut: the position up to which it was handed over to be stored.
        waited_for: whether a cut was left out because the segment will soon be full.
    """

    start: int
    data: bytearray
    received: int
    cut: int
    waited_for: bool = False

    @property
    def end(self) -> int:
        return self.start + len(self.data)

    def fill(self, data: memoryview) -> int:
        """Take as many bytes as fit; returns their number."""
        at = self.received - self.start
        count = min(len(data), len(self.data) - at)
        self.data[at : at + count] = data[:count]
        self.received += count
        return count

    def is_soon_full(self) -> bool:
        """Whether it will be full within an interval, at the pace at which its last bytes arrived.

        A piece of it would soon be stored again as part of the whole segment. The stream waits only once for each segment.
        """
        if self.waited_for or self.end - self.received > self.received - self.cut:
            return False
        self.waited_for = True
        return True

    def between(self, start: int, end: int) -> bytes:
        return bytes(memoryview(self.data)[start - self.start : end - self.start])
