"""When what is done. One thing at a time: a queue of one thread, whatever is due together waits."""

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from zoneinfo import ZoneInfo

from apscheduler.events import EVENT_JOB_MAX_INSTANCES, JobSubmissionEvent
from apscheduler.executors.pool import BasePoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.interval import IntervalTrigger

from backup import cron
from backup.cancellation import StoppedError
from backup.service.state import Job, State
from sidecar import OpsError

log = logging.getLogger(__name__)


class Trigger(BaseTrigger):  # type: ignore[misc]  # APScheduler has no types
    """A cron expression for APScheduler, whose own counts weekdays from Monday and knows no «either»."""

    def __init__(self, expression: cron.Cron, zone: ZoneInfo) -> None:
        self._cron = expression
        self._zone = zone

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime | None:
        """What APScheduler asks; after downtime it gets one time, not all that were missed."""
        found = self._cron.next_after(max(filter(None, (previous_fire_time, now))), self._zone)
        return found.astimezone(self._zone) if found else None


class Queue(BasePoolExecutor):  # type: ignore[misc]  # APScheduler has no types
    """Work for a pool that is ours to wait for."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        super().__init__(pool)

    def shutdown(self, wait: bool = True) -> None:
        """Left to :meth:`Schedules.stop`."""


class Scheduler:
    """The service's schedules.

    APScheduler's own defaults would skip a run that begins a second late, without a word: here it waits, and runs that
    were missed together become one. Only what is still on when it is due again is skipped, and that is told.
    """

    def __init__(self, state: State) -> None:
        self._state = state
        self._zone = ZoneInfo(state.wiring.settings.timezone)
        self._pools = {
            name: ThreadPoolExecutor(1, thread_name_prefix=name) for name in ("default", "refresh")
        }
        self._scheduler = BackgroundScheduler(
            timezone=self._zone,
            executors={name: Queue(pool) for name, pool in self._pools.items()},
            job_defaults={"misfire_grace_time": None, "coalesce": True, "max_instances": 1},
        )
        self._scheduler.add_listener(self._tell_skipped, EVENT_JOB_MAX_INSTANCES)

    def add(self, name: str, expression: str, work: Callable[[], None]) -> None:
        """Do something at the times of a cron expression."""
        self._state.jobs[name] = Job(name)
        trigger = Trigger(cron.parse(expression), self._zone)
        self._scheduler.add_job(self._guarded(name, work), trigger, id=name)

    def every(self, seconds: float, work: Callable[[], None], *, queued: bool = False) -> None:
        """Do something again and again: in the queue, or beside it if it is small."""
        executor = "default" if queued else "refresh"
        self._scheduler.add_job(self._guarded("", work), IntervalTrigger(seconds=seconds), executor=executor)

    def once(self, name: str, work: Callable[[], None]) -> None:
        """Do something as soon as the queue is free."""
        self._scheduler.add_job(self._guarded(name, work))

    def start(self) -> None:
        self._scheduler.start()
        self._note_next()

    def stop(self) -> None:
        """Wait for what is on; ask it to end before."""
        # The scheduler's own waiting holds a lock that the work needs for its last note.
        self._scheduler.shutdown(wait=False)
        for pool in self._pools.values():
            pool.shutdown(wait=True, cancel_futures=True)

    def _guarded(self, name: str, work: Callable[[], None]) -> Callable[[], None]:
        def guarded() -> None:
            begin = self._state.wiring.clock()
            try:
                work()
            except StoppedError as error:
                log.info("%s: %s", name, error.message)
            except OpsError as error:
                log.error("%s failed: %s; try: %s", name, error.message, error.hint)  # noqa: TRY400 - said in words
            except Exception:
                log.exception("%s failed", name)
            finally:
                self._note(name, begin)

        return guarded

    def _tell_skipped(self, event: JobSubmissionEvent) -> None:
        if event.job_id in self._state.jobs:
            log.warning("%s is skipped once: it is still on, or waits, since it was last due", event.job_id)
            self._note_next()

    def _note(self, name: str, begin: datetime) -> None:
        if name in self._state.jobs:
            self._state.jobs[name].last_run = begin
        self._note_next()

    def _note_next(self) -> None:
        for name, known in self._state.jobs.items():
            job = self._scheduler.get_job(name)
            known.next_run = job.next_run_time if job else None
