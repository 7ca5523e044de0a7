"""Beat: what django-celery-beat's tables and the tasks that beat sends say about it."""

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from exporters.beat.schedules import Schedule
from exporters.exposition.families import Family, clean, gauge, label_text
from exporters.tables.state import EventState

log = logging.getLogger(__name__)

# Where beat's own events are seen, nobody has to wait for its database writes.
SEEN_GRACE = 60.0


@dataclass(frozen=True)
class Known:
    """One schedule as it stands: epoch seconds, None where unknown."""

    schedule: Schedule
    last_run: float | None
    due: float | None

    def overdue(self, now: float) -> float:
        return max(0.0, now - self.due) if self.due is not None else 0.0

    @property
    def labels(self) -> str:
        return label_text(schedule=clean(self.schedule.name), task=clean(self.schedule.task))


class BeatCollector:
    """Schedules from the database, liveness from them and from the tasks that beat sends.

    Args:
        state: of every broker that beat may send to.
        read: reads the schedules; None without a database.
        names: tasks that beat alone sends.
        grace: seconds that everything may be overdue before beat counts as down.
    """

    name = "beat"

    def __init__(
        self,
        state: Sequence[EventState],
        *,
        read: Callable[[], list[Schedule]] | None,
        names: Iterable[str] = (),
        grace: float = 240.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._state = state
        self._read = read
        self._names = frozenset(names)
        self._grace = grace
        self._clock = clock
        self._schedules: list[Schedule] | None = None
        self._watch(self._names)

    def update(self) -> None:
        """Read the schedules anew; raises when that fails, and what was read before stays."""
        if self._read is not None:
            self._schedules = self._read()
            self._watch(self._names | {schedule.task for schedule in self._schedules})

    def collect(self) -> Iterable[Family]:
        now, sent = self._clock(), self._last_sent()
        known = [self._known(schedule, sent, now) for schedule in self._schedules or ()]
        newest = max(sent.values(), default=None)
        yield gauge(
            "celery_beat_up",
            "Whether beat sends what is due.",
            [] if (up := self._up(known, newest, now)) is None else [("", int(up))],
        )
        yield gauge(
            "celery_beat_last_sent_timestamp_seconds",
            "When beat last sent a scheduled task.",
            [] if newest is None else [("", newest)],
        )
        yield from _schedule_families(known, now)

    def _watch(self, names: frozenset[str] | set[str]) -> None:
        for state in self._state:
            state.beat.names = frozenset(names) | state.beat.names

    def _last_sent(self) -> dict[str, float]:
        newest: dict[str, float] = {}
        for state in self._state:
            for name, at in state.beat.last_sent().items():
                newest[name] = max(at, newest.get(name, 0.0))
        return newest

    def _known(self, schedule: Schedule, sent: dict[str, float], now: float) -> Known:
        last = schedule.last_run_at.timestamp() if schedule.last_run_at else None
        told = sent.get(schedule.task)
        # A task of several schedules does not say which of them it was.
        if told is not None and self._count(schedule.task) == 1:
            last = max(last or 0.0, told)
        moment = datetime.fromtimestamp(last, UTC) if last is not None else None
        try:
            due = schedule.next_due(last_run=moment, now=datetime.fromtimestamp(now, UTC))
        except (ValueError, KeyError, OverflowError):
            log.debug("schedule %s has no next run", schedule.name)
            due = None
        return Known(schedule, last, due.timestamp() if due else None)

    def _count(self, task: str) -> int:
        return sum(schedule.task == task and schedule.enabled for schedule in self._schedules or ())

    def _up(self, known: list[Known], newest_sent: float | None, now: float) -> bool | None:
        """Down when something is long due and nothing at all was sent since."""
        dues = [each.due for each in known if each.due is not None]
        if not dues:
            return None if newest_sent is None else now - newest_sent <= self._grace
        runs = [each.last_run for each in known if each.last_run is not None]
        newest = max([*runs, newest_sent or 0.0])
        grace = self._grace if newest_sent is None else min(self._grace, SEEN_GRACE)
        return now - max(min(dues), newest) <= grace


def _schedule_families(known: list[Known], now: float) -> Iterable[Family]:
    prefix = "celery_beat_schedule"
    yield gauge(
        f"{prefix}_last_run_timestamp_seconds",
        "When the schedule's task was last sent.",
        [(each.labels, each.last_run) for each in known if each.last_run is not None],
    )
    yield gauge(
        f"{prefix}_next_due_timestamp_seconds",
        "The first run after the last one.",
        [(each.labels, each.due) for each in known if each.due is not None],
    )
    yield gauge(
        f"{prefix}_overdue_seconds",
        "How long the next run has been due; django-celery-beat writes last runs every 180 s.",
        [(each.labels, each.overdue(now)) for each in known],
    )
    yield gauge(
        f"{prefix}_enabled",
        "Whether the schedule is enabled.",
        [(e.labels, int(e.schedule.enabled)) for e in known],
    )
