"""Beat metrics, from django-celery-beat's tables and the tasks that beat sends."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from exporters.beat.schedules import Schedule
from exporters.exposition.families import Family, clean, gauge, label_text
from exporters.tables.state import EventState

log = logging.getLogger(__name__)

# Seconds. If beat's own events are seen, its delayed database writes do not matter.
SEEN_GRACE = 60.0
# Maximum number of schedules that are exposed; each has four series.
MAX_SCHEDULES = 20_000


class Entry:
    """One schedule, with the values that are computed once per change: its label text and its next run.

    Attributes:
        last_run: in epoch seconds; None if it never ran.
        due: in epoch seconds; None if there is no next run or it is not known.
    """

    __slots__ = ("due", "labels", "last_run", "schedule")

    def __init__(self, schedule: Schedule, now: float) -> None:
        self.schedule = schedule
        self.labels = label_text(schedule=clean(schedule.name), task=clean(schedule.task))
        self.last_run = schedule.last_run_at.timestamp() if schedule.last_run_at else None
        self.due = self._next(now)

    def sent(self, at: float, now: float) -> None:
        """Note a run that is not in the database yet."""
        if self.last_run is None or at > self.last_run:
            self.last_run = at
            self.due = self._next(now)

    def overdue(self, now: float) -> float:
        """Seconds since the next run was due."""
        return max(0.0, now - self.due) if self.due is not None else 0.0

    def expire(self, now: float) -> None:
        """Forget the next run of a schedule that has ended."""
        expires = self.schedule.expires
        if self.due is not None and expires is not None and expires.timestamp() <= now:
            self.due = None

    def _next(self, now: float) -> float | None:
        last = datetime.fromtimestamp(self.last_run, UTC) if self.last_run is not None else None
        try:
            due = self.schedule.next_due(last_run=last, now=datetime.fromtimestamp(now, UTC))
        except (ValueError, KeyError, OverflowError):
            log.debug("schedule %s has no next run", self.schedule.name)
            return None
        return due.timestamp() if due else None


@dataclass(frozen=True)
class Beat:
    """Beat at one moment. Times are in epoch seconds.

    Attributes:
        up: whether it sends what is due; None if that is not known.
        last_sent: when it last sent a task; None if no event showed it.
        entries: its schedules; empty without a database.
    """

    up: bool | None
    last_sent: float | None
    entries: tuple[Entry, ...]


class BeatCollector:
    """Reports schedules from the database, and liveness from them and from the tasks that beat sends.

    Args:
        states: the event state of every broker that beat may send to.
        read: reads the schedules; None without a database.
        names: tasks that only beat sends.
        grace: seconds for which everything may be overdue before beat counts as down.
        clock: epoch seconds.
    """

    name = "beat"

    def __init__(
        self,
        states: Sequence[EventState],
        *,
        read: Callable[[], list[Schedule]] | None,
        names: Iterable[str] = (),
        grace: float = 240.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._senders = [state.beat for state in states]
        self._read = read
        self._names = frozenset(names)
        self._grace = grace
        self._clock = clock
        # Replaced as a whole by each refresh. Schedules by the task that only they send.
        self._entries: list[Entry] = []
        self._by_task: dict[str, Entry] = {}
        self._left_out = 0
        self._cache: dict[Schedule, Entry] = {}
        self._watch(self._names)

    def update(self) -> None:
        """Read the schedules again. If that fails, it raises, and the earlier schedules remain."""
        if self._read is None:
            return
        schedules = self._read()
        now = self._clock()
        self._left_out = max(0, len(schedules) - MAX_SCHEDULES)
        # A schedule that has not changed keeps its next run.
        entries = [
            self._cache.get(schedule) or Entry(schedule, now) for schedule in schedules[:MAX_SCHEDULES]
        ]
        self._cache = {entry.schedule: entry for entry in entries}
        enabled = [entry for entry in entries if entry.schedule.enabled]
        users = Counter(entry.schedule.task for entry in enabled)
        # A task of several schedules does not show which of them sent it.
        self._by_task = {entry.schedule.task: entry for entry in enabled if users[entry.schedule.task] == 1}
        self._entries = entries
        self._watch(self._names | {entry.schedule.task for entry in entries})

    def current(self) -> Beat:
        """Beat now, from what is in memory."""
        now, sent, entries = self._clock(), self._last_sent(), self._entries
        for task, at in sent.items():
            entry = self._by_task.get(task)
            if entry is not None:
                entry.sent(at, now)
        for entry in entries:
            entry.expire(now)
        newest = max(sent.values(), default=None)
        return Beat(self._up(entries, newest, now), newest, tuple(entries))

    def collect(self) -> Iterable[Family]:
        """The metric families of beat."""
        beat = self.current()
        yield gauge(
            "celery_beat_up",
            "Whether beat sends what is due.",
            [] if beat.up is None else [("", int(beat.up))],
        )
        yield gauge(
            "celery_beat_last_sent_timestamp_seconds",
            "When beat last sent a scheduled task.",
            [] if beat.last_sent is None else [("", beat.last_sent)],
        )
        yield gauge(
            "celery_exporter_schedules_left_out",
            "Schedules that are not shown because there are too many.",
            [("", self._left_out)] if self._read is not None else [],
        )
        yield from _schedule_families(beat.entries, self._clock())

    def _watch(self, names: frozenset[str] | set[str]) -> None:
        for senders in self._senders:
            if not names <= senders.names:
                senders.names = frozenset(names) | senders.names

    def _last_sent(self) -> dict[str, float]:
        newest: dict[str, float] = {}
        for senders in self._senders:
            for name, at in senders.last_sent().items():
                newest[name] = max(at, newest.get(name, 0.0))
        return newest

    def _up(self, entries: list[Entry], newest_sent: float | None, now: float) -> bool | None:
        """Whether something is long overdue and nothing at all was sent since then."""
        dues = [entry.due for entry in entries if entry.due is not None]
        if not dues:
            return None if newest_sent is None else now - newest_sent <= self._grace
        newest = max((entry.last_run for entry in entries if entry.last_run is not None), default=0.0)
        newest = max(newest, newest_sent or 0.0)
        grace = self._grace if newest_sent is None else min(self._grace, SEEN_GRACE)
        return now - max(min(dues), newest) <= grace


def _schedule_families(entries: Sequence[Entry], now: float) -> Iterable[Family]:
    prefix = "celery_beat_schedule"
    yield gauge(
        f"{prefix}_last_run_timestamp_seconds",
        "When the schedule's task was last sent.",
        [(entry.labels, entry.last_run) for entry in entries if entry.last_run is not None],
    )
    yield gauge(
        f"{prefix}_next_due_timestamp_seconds",
        "The first run after the last one.",
        [(entry.labels, entry.due) for entry in entries if entry.due is not None],
    )
    yield gauge(
        f"{prefix}_overdue_seconds",
        "How long the next run has been due; django-celery-beat writes last runs every 180 s.",
        [(entry.labels, entry.overdue(now)) for entry in entries],
    )
    yield gauge(
        f"{prefix}_enabled",
        "Whether the schedule is enabled.",
        [(entry.labels, int(entry.schedule.enabled)) for entry in entries],
    )
