"""The Redis side of the event receiver: subscribe, drain the socket, return whole frames.

Redis disconnects a subscriber whose output buffer grows too large (32 MB by default), and everything sent until it
reconnects is lost. So the socket comes first: everything in it is read, without blocking, before another batch is
decoded. The backlog is bounded, and dropped frames are counted.
"""

import contextlib
import time
from collections import deque
from typing import Any

import hiredis
import redis

from exporters.events.sockets import BareSocket, DisconnectedError

# Maximum number of reads before the frames that were read are decoded.
MAX_CHUNKS = 16
# hiredis copies its remaining input each time it has parsed 1 kB, so it is fed in small pieces.
PIECE = 1 << 14
# Seconds of silence after which the server is pinged, and after which the connection counts as dead.
PING_AFTER = 5.0
DEAD_AFTER = 15.0
# Index of the message in a reply: pmessage, pattern, channel, message.
MESSAGE_INDEX = 3


def glob_escaped(text: str) -> str:
    """Text that matches only itself in a Redis pattern."""
    return "".join(f"\\{char}" if char in "*?[]\\" else char for char in text)


def patterns(global_prefix: str, fanout_prefix: str, exchange: str = "celeryev") -> list[str]:
    """The channels to subscribe to. kombu appends the routing key to the channel only with ``fanout_patterns``."""
    channel = glob_escaped(f"{global_prefix}{fanout_prefix}{exchange}")
    return [f"{channel}/*", channel]


class Batch:
    """Frames that were read together."""

    __slots__ = ("epoch", "frames", "received", "size")

    def __init__(self, frames: list[bytes], size: int) -> None:
        self.frames = frames
        self.size = size
        self.received = time.monotonic()
        self.epoch = time.time()


class Backlog:
    """Frames that were read but not yet decoded, oldest first. The size is bounded; dropped frames are counted.

    Args:
        limit: maximum size in bytes.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.bytes = 0
        # The largest size since the peak was last reset to 0.
        self.peak = 0
        self.dropped = 0
        self._batches: deque[Batch] = deque()

    def __len__(self) -> int:
        return len(self._batches)

    def add(self, batch: Batch) -> None:
        if self.bytes + batch.size > self.limit:
            self.dropped += len(batch.frames)
            return
        self.bytes += batch.size
        self.peak = max(self.peak, self.bytes)
        self._batches.append(batch)

    def take(self) -> Batch:
        batch = self._batches.popleft()
        self.bytes -= batch.size
        return batch


class Subscription:
    """One subscribed connection.

    The handshake (password, TLS, Sentinel, unix socket, database) is redis-py's; after that the bare socket is
    read with our own parser.
    """

    def __init__(self, pool: redis.ConnectionPool, channels: list[str]) -> None:
        # Not the pool's make_connection, which counts every attempt and refuses all after 100. The type is Any, because
        # redis-py's public types do not expose the socket.
        self._connection: Any = pool.connection_class(**pool.connection_kwargs)
        self._connection.connect()
        self.client_id = self._client_id()
        self._socket = BareSocket(self._connection._sock)
        self._reader = hiredis.Reader()
        self._heard = time.monotonic()
        self._asked = self._heard
        self._socket.send(_packed("PSUBSCRIBE", *channels))
        self._confirmed = 0
        self._channels = len(channels)

    @property
    def confirmed(self) -> bool:
        """Whether Redis has acknowledged every subscription."""
        return self._confirmed >= self._channels

    def close(self) -> None:
        with contextlib.suppress(Exception):
            self._connection.disconnect()

    def wait(self, seconds: float) -> None:
        """Wait until there is something to read, up to a time limit.

        Raises:
            DisconnectedError: the server has been silent for too long and does not answer a ping.
        """
        if not self._socket.wait(seconds):
            self._check_silence(time.monotonic())

    def drain(self, backlog: Backlog) -> int:
        """Read everything in the socket into the backlog; returns the number of bytes read.

        Raises:
            DisconnectedError: the connection is closed.
        """
        total = 0
        for _ in range(MAX_CHUNKS):
            data = self._socket.receive()
            if data is None:
                break
            total += len(data)
            frames = self._frames(data)
            if frames:
                backlog.add(Batch(frames, sum(map(len, frames))))
        if total:
            self._heard = time.monotonic()
        return total

    def _frames(self, data: bytes) -> list[bytes]:
        """The frames that this data completes."""
        frames: list[bytes] = []
        reader, gets, append, reply = self._reader, self._reader.gets, frames.append, None
        try:
            for at in range(0, len(data), PIECE):
                reader.feed(data, at, min(PIECE, len(data) - at))
                while (reply := gets()) is not False:
                    if reply[0] == b"pmessage":
                        append(reply[MESSAGE_INDEX])
                    else:
                        self._confirmed += reply[0] == b"psubscribe"
        except (hiredis.ProtocolError, TypeError, IndexError, KeyError) as error:
            if isinstance(reply, hiredis.ReplyError):
                raise DisconnectedError(f"refused: {reply}") from None
            raise DisconnectedError(f"not the Redis protocol: {error}") from None
        return frames

    def _check_silence(self, now: float) -> None:
        if now - self._heard > DEAD_AFTER:
            raise DisconnectedError(f"silent for {DEAD_AFTER:.0f} s")
        if now - self._heard > PING_AFTER and now - self._asked > PING_AFTER:
            self._asked = now
            self._socket.send(_packed("PING"))

    def _client_id(self) -> int | None:
        self._connection.send_command("CLIENT", "ID")
        try:
            return int(self._connection.read_response())
        except redis.ResponseError:  # not allowed for this user
            return None


def _packed(*words: str) -> bytes:
    command: Any = words
    return bytes(hiredis.pack_command(command))
