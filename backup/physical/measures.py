"""The state of one server's streamer, for the metrics, the health check and the log."""

import threading
from collections import deque
from dataclasses import dataclass, field
from datetime import datetime

from backup.physical.slot import SlotStatus

# Minimum seconds between samples of the server's position, and their maximum number.
SAMPLE_SECONDS = 0.2
SAMPLES = 4096


@dataclass(frozen=True)
class Beat:
    """A message that was written into the WAL: when, and the position by which it is stored."""

    moment: datetime
    position: int


@dataclass(frozen=True)
class Recoverable:
    """What can be recovered of a server, and how the newest proof of that went. What is not known is None.

    Attributes:
        earliest, latest: of the newest period without a gap.
        proven: the last commit that the newest proof has reached.
        rpo: seconds between that and the newest WAL that was stored then.
        rto: seconds from the store to a server that answers.
        replay: bytes of WAL a second that were replayed.
    """

    earliest: datetime | None = None
    latest: datetime | None = None
    proven: datetime | None = None
    rpo: float | None = None
    rto: float | None = None
    replay: float | None = None


@dataclass
class Measures:
    """Shared between the streamer, the heartbeat and the web server. All moments are monotonic seconds, except in beats.

    Attributes:
        streaming: whether WAL arrives.
        problem: why none arrives, or why the store does not accept it; None if there is no problem.
        received: the position up to which the WAL was received; None if not known.
        stored: the position up to which the WAL is stored; None if not known.
        latest: the server's last known position; None if not known.
        slot: the last status from the server; None if not known.
        synchronous: whether commits wait for us; None if not known.
        cap: bytes that the slot may keep; None if there is no limit or it is not known.
        uncapped: whether the server has no limit; None if not known.
        clock_skew: seconds that the server's clock is ahead of ours; None if not known.
        segment_size: bytes of a WAL segment; None until the server was reached.
        gap_noticed: when the last gap was found; None if there is none.
        base_taken: when the newest base backup was taken; None if there is none.
        base_proven: when the newest proven base backup was taken; None if there is none.
        recoverable: as of the last look at the store.
    """

    streaming: bool = False
    problem: str | None = "not connected yet"
    timeline: int | None = None
    received: int | None = None
    stored: int | None = None
    latest: int | None = None
    slot: SlotStatus | None = None
    synchronous: bool | None = None
    cap: int | None = None
    uncapped: bool | None = None
    clock_skew: float | None = None
    received_bytes: int = 0
    stored_bytes: int = 0
    objects: int = 0
    gaps: int = 0
    beat_stored: Beat | None = None
    segment_size: int | None = None
    gap_noticed: datetime | None = None
    base_taken: datetime | None = None
    base_proven: datetime | None = None
    recoverable: Recoverable = Recoverable()
    _beats: deque[Beat] = field(default_factory=lambda: deque(maxlen=1000))
    _samples: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=SAMPLES))
    _safe_at: float | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def arrived(self, size: int, received: int, latest: int, now: float) -> None:
        """Bytes arrived up to a position, together with the server's own position."""
        with self._lock:
            self.received_bytes += size
            self.received = received
            self._sample(latest, now)

    def kept(self, stored: int, now: float) -> None:
        """Everything up to a position is stored."""
        with self._lock:
            self.stored = stored
            self._drop(now)

    def put(self, size: int) -> None:
        """An object was stored."""
        with self._lock:
            self.objects += 1
            self.stored_bytes += size

    def beat(self, beat: Beat) -> None:
        """A heartbeat was written."""
        with self._lock:
            self._beats.append(beat)

    def unstored_seconds(self, now: float) -> float | None:
        """How much would be lost now: seconds since the oldest WAL that is not stored was seen; None if not known.

        While nothing arrives, it is not known what the server writes; then it is the time since everything was stored.
        """
        with self._lock:
            self._drop(now)
            if self._safe_at is None:
                return None
            if self._samples:
                return now - self._samples[0][0]
            return 0.0 if self.streaming else now - self._safe_at

    def lag_bytes(self) -> int | None:
        """WAL that the server has written and the store does not have, as far as we know."""
        with self._lock:
            if self.latest is None or self.stored is None:
                return None
            return max(0, self.latest - self.stored)

    def _sample(self, latest: int, now: float) -> None:
        self.latest = max(latest, self.latest or 0)
        if self.stored is not None and latest <= self.stored:
            return
        if not self._samples or (
            latest > self._samples[-1][1] and now - self._samples[-1][0] >= SAMPLE_SECONDS
        ):
            if len(self._samples) == SAMPLES:
                return  # keep the oldest sample; without the newest, the value is only less precise
            self._samples.append((now, latest))
        elif latest > self._samples[-1][1] and len(self._samples) > 1:
            self._samples[-1] = (self._samples[-1][0], latest)

    def _drop(self, now: float) -> None:
        """Forget the samples and heartbeats that are stored."""
        if self.stored is None:
            return
        while self._samples and self._samples[0][1] <= self.stored:
            self._samples.popleft()
        if not self._samples and self.streaming:
            self._safe_at = now
        while self._beats and self._beats[0].position <= self.stored:
            self.beat_stored = self._beats.popleft()
