"""The event receiver of one broker: connect, drain, decode, count, and reconnect once the broker is back."""

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import redis

from exporters.backoff import delays
from exporters.broker import RedisSettings, redis_pool
from exporters.decode import UndecodableError, decode_all, decode_general
from exporters.events.redis import Backlog, Batch, Subscription, patterns
from exporters.tables.state import EventState
from sidecar.logs import fields
from sidecar.malloc import trim

log = logging.getLogger(__name__)

# Bytes. After a smaller read, a short pause lets more arrive, because a wake-up costs more than an event.
SMALL_READ = 1 << 16
REST_SECONDS = 0.004
IDLE_SECONDS = 0.5
# Seconds between two rounds of housekeeping.
TIDY_SECONDS = 1.0
# Bytes. After a backlog of this size, freed memory is worth returning to the system.
LARGE_BACKLOG = 4 << 20


@dataclass
class Health:
    """The state of one receiver's connection; written by its thread, read by others. Times are monotonic."""

    connected: bool = False
    disconnects: int = 0
    client_id: int | None = None
    error: str = "not connected yet"
    alive_at: float = field(default_factory=time.monotonic)
    changed_at: float = field(default_factory=time.monotonic)
    last_incident: float | None = None
    # Why the broker accepts no messages from any client although the connection is up; empty if it does.
    blocked: str = ""

    @property
    def hears(self) -> bool:
        """Whether events can arrive."""
        return self.connected and not self.blocked

    def up(self, client_id: int | None) -> None:
        self.connected, self.client_id, self.error = True, client_id, ""
        self.changed_at = time.monotonic()

    def down(self, error: str) -> None:
        if self.connected:
            self.disconnects += 1
            self.changed_at = self.last_incident = time.monotonic()
        self.connected, self.client_id, self.error = False, None, error


# Called with the JSON objects of each frame.
Watch = Callable[[list[Any]], None]


class EventReceiver(Protocol):
    """The source of events; ``watch`` is called with each frame's events after they were counted."""

    watch: Watch | None
    health: Health
    backlog: Backlog
    # Whether the broker applies the prefetch counts that workers report.
    prefetch_is_global: bool

    def run(self, stop: threading.Event) -> None:
        """Receive events until stopped; raises when it cannot continue."""


class Housekeeping:
    """The common tasks of receivers besides counting: note losses, forget workers, track their own health.

    Args:
        state: the state that counts the events.
        health: the health of the connection.
        backlog: the backlog, which may have dropped frames.
    """

    def __init__(self, state: EventState, health: Health, backlog: Backlog) -> None:
        self._state = state
        self._health = health
        self._backlog = backlog
        self._losses = (0, 0)
        self._tidied = 0.0

    def connected(self, client_id: int | None) -> None:
        self._health.up(client_id)
        self._state.connected()

    def disconnected(self, error: Exception) -> None:
        text = str(error) or type(error).__name__
        if self._health.connected or self._health.error != text:
            log.warning("broker connection lost %s", fields(error=text))
        self._state.roster.connection.lost()
        self._health.down(text)
        self.tidy()

    def tidy(self) -> None:
        """Do what is due; cheap to call often."""
        now = time.monotonic()
        self._health.alive_at = now
        if now - self._tidied < TIDY_SECONDS:
            return
        self._tidied = now
        self._note_losses(now)
        if self._backlog.peak > LARGE_BACKLOG and not len(self._backlog):
            self._backlog.peak = 0
            trim()
        for node in self._state.purge(self._state.roster.connection.observed_at()):
            log.info("worker forgotten %s", fields(node=node))

    def _note_losses(self, now: float) -> None:
        losses = (self._backlog.dropped, self._state.roster.lost)
        if any(new > old for new, old in zip(losses, self._losses, strict=True)):
            self._health.last_incident = now
            log.warning("events were lost %s", fields(dropped=losses[0], starts_missing=losses[1]))
        self._losses = losses


class RedisReceiver:
    """Events over Redis pub/sub.

    Args:
        settings: how to reach the broker.
        state: the state that counts the events.
        exchange: Celery's ``event_exchange``.
        backlog_bytes: bytes that may wait undecoded.
    """

    def __init__(
        self,
        settings: RedisSettings,
        state: EventState,
        *,
        exchange: str = "celeryev",
        backlog_bytes: int = 64 << 20,
    ) -> None:
        self.health = Health()
        self.backlog = Backlog(backlog_bytes)
        self._state = state
        self.watch: Watch | None = None
        self.prefetch_is_global = True
        self._pool = redis_pool(settings, name="celery-exporter-events")
        self._patterns = patterns(settings.global_prefix, settings.fanout_prefix, exchange)
        self._housekeeping = Housekeeping(state, self.health, self.backlog)

    def run(self, stop: threading.Event) -> None:
        waits = delays()
        while not stop.is_set():
            try:
                self._subscribed(stop)
            except (redis.RedisError, OSError) as error:
                if self.health.connected:
                    waits = delays()
                self._housekeeping.disconnected(error)
                self._finish_backlog()
                stop.wait(next(waits))
            except Exception as error:
                # A fault in our code: from now on events are missed, which must be visible.
                self._housekeeping.disconnected(error)
                raise

    def _subscribed(self, stop: threading.Event) -> None:
        subscription = Subscription(self._pool, self._patterns)
        try:
            while not stop.is_set():
                self._step(subscription)
                if subscription.confirmed and not self.health.connected:
                    self._housekeeping.connected(subscription.client_id)
                    log.info("subscribed to task events %s", fields(patterns=",".join(self._patterns)))
        finally:
            subscription.close()

    def _step(self, subscription: Subscription) -> None:
        if not len(self.backlog):
            subscription.wait(IDLE_SECONDS)
        size = subscription.drain(self.backlog)
        if len(self.backlog):
            self.count(self.backlog.take())
        if size < SMALL_READ and not len(self.backlog):
            time.sleep(REST_SECONDS)
        self._housekeeping.tidy()

    def count(self, batch: Batch) -> None:
        """Decode the frames of a batch and count their events."""
        state, watch = self._state, self.watch
        events, refused = decode_all(batch.frames)
        state.undecodable += refused
        state.take(events, batch.received, batch.epoch)
        state.note_lag(events, time.time())
        if watch is not None:
            for frame in batch.frames:
                with contextlib.suppress(UndecodableError):
                    watch(decode_general(frame))

    def _finish_backlog(self) -> None:
        while len(self.backlog):
            self.count(self.backlog.take())
