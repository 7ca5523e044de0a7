"""The WAL as it arrives: messages of the server, and positions that are confirmed to it."""

import struct
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from psycopg import Error
from psycopg.pq.abc import PGresult

from backup.physical import lsn
from backup.physical.walsender.link import Link, given, text

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_DATA = struct.Struct("!QQq")
_ALIVE = struct.Struct("!QqB")
_STATUS = struct.Struct("!cQQQqB")


@dataclass(frozen=True)
class Wal:
    """A piece of the WAL: ``data`` begins at the position ``start``.

    Attributes:
        latest: the end of the server's WAL when it sent this.
        sent: the server's clock when it sent this.
    """

    start: int
    data: bytes | memoryview
    latest: int
    sent: datetime

    @property
    def end(self) -> int:
        """The first position after the piece."""
        return self.start + len(self.data)


@dataclass(frozen=True)
class Alive:
    """A keepalive message. ``wanted``: the server requires one in return, or it ends the connection."""

    latest: int
    sent: datetime
    wanted: bool


@dataclass(frozen=True)
class TimelineEnd:
    """The timeline ends at ``position``: everything up to there was received. ``timeline`` is the next one."""

    timeline: int
    position: int


Message = Wal | Alive | TimelineEnd


class WalStream:
    """The WAL as it arrives. Poll it with :meth:`read`, and report stored positions with :meth:`confirm`.

    Attributes:
        end: the end of the timeline, once it is reached.
    """

    def __init__(self, link: Link, end: TimelineEnd | None = None) -> None:
        self.end = end
        self._link = link
        self._behind = False

    def fileno(self) -> int:
        """The socket's file descriptor, so that a caller can wait on several."""
        return self._link.connection.socket

    def read(self, timeout: float = 0.0, *, gather: float = 0.0) -> Message | None:
        """The next message; None if none arrives within ``timeout`` seconds. Once the timeline has ended, it is :attr:`end`.

        Args:
            gather: seconds in which further messages may arrive, to be read from the socket together. Each read costs
                more than a small message does. A server that has more to send is not kept waiting.

        Raises:
            ReplicationError: the server ended the stream, or the connection was lost. What was read before is valid.
        """
        until = time.monotonic() + timeout
        while (message := self.buffered()) is None:
            if not self._link.wait(until - time.monotonic(), 0.0 if self._behind else gather):
                return None
        return message

    def buffered(self) -> Message | None:
        """The next message of those that were read from the socket; None if there are no more. It never waits.

        Raises:
            ReplicationError: as for :meth:`read`.
        """
        while self.end is None:
            size, data = self._link.copied()
            if size < 0:
                self.end = self._finish()
            elif size == 0:
                return None
            elif (message := self._message(data)) is not None:
                return message
        return self.end

    def confirm(
        self, received: int, stored: int, *, now: datetime | None = None, answer: bool = False
    ) -> None:
        """Report the positions up to which the WAL was received and is safely stored. The slot moves to the latter.

        Args:
            now: our clock's time, which the server displays; by default the current time.
            answer: ask the server for a keepalive message.

        Raises:
            ReplicationError: the connection was lost.
        """
        clock = ((now or datetime.now(UTC)) - _EPOCH) // timedelta(microseconds=1)
        with self._link.unbroken():
            self._link.connection.put_copy_data(
                _STATUS.pack(b"r", received, stored, stored, clock, int(answer))
            )
            self._link.connection.flush()

    def _message(self, data: memoryview) -> Message | None:
        """A message of the stream; None for a kind that this version does not know."""
        kind, body = bytes(data[:1]), data[1:]
        try:
            if kind == b"w":
                start, latest, clock = _DATA.unpack_from(body)
                wal = Wal(start, body[_DATA.size :], latest, _moment(clock))
                self._behind = latest > wal.end
                return wal
            if kind == b"k":
                latest, clock, wanted = _ALIVE.unpack_from(body)
                return Alive(latest, _moment(clock), bool(wanted))
        except (struct.error, OverflowError):
            raise self._link.error(f"a message of kind {kind!r} has {len(body)} bytes") from None
        return None

    def _finish(self) -> TimelineEnd:
        """Handle the server's end of the copy: the end of the timeline, or an error."""
        with suppress(Error):  # a server that ended it with an error accepts nothing more
            self._link.connection.put_copy_end()
        end = end_of_timeline(self._link.well(self._link.next_result()))
        self._link.drain()
        return end


def end_of_timeline(result: PGresult) -> TimelineEnd:
    return TimelineEnd(int(given(text(result, 0, 0))), lsn.parse(given(text(result, 0, 1))))


def _moment(clock: int) -> datetime:
    return _EPOCH + timedelta(microseconds=clock)
