"""The schedules of the service. Jobs run one at a time, in a queue of one thread."""

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
    """A cron expression for APScheduler, whose own counts weekdays from Monday and requires both days to match."""

    def __init__(self, expression: cron.Cron, zone: ZoneInfo) -> None:
        self._cron = expression
        self._zone = zone

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime | None:
        """The next time for APScheduler. After downtime it gets one run, not all that were missed."""
        found = self._cron.next_after(max(filter(None, (previous_fire_time, now))), self._zone)
        return found.astimezone(self._zone) if found else None


class Queue(BasePoolExecutor):  # type: ignore[misc]  # APScheduler has no types
    """An executor for a pool that we wait for ourselves."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        super().__init__(pool)

    def shutdown(self, wait: bool = True) -> None:
        """See :meth:`Scheduler.stop`."""


class Scheduler:
    """The service's schedules.

    APScheduler's defaults silently skip a run that begins a second late. Here it waits, and runs that were missed
    together become one. A run is only skipped, with a warning, while its previous one is still in progress.
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
        self._scheduler.add_listener(self._log_skipped, EVENT_JOB_MAX_INSTANCES)

    def add(self, name: str, expression: str, work: Callable[[], None]) -> None:
        """Run a job at the times of a cron expression."""
        self._state.jobs[name] = Job(name)
        trigger = Trigger(cron.parse(expression), self._zone)
        self._scheduler.add_job(self._guarded(name, work), trigger, id=name)

    def every(self, seconds: float, work: Callable[[], None], *, queued: bool = False) -> None:
        """Run a job periodically: in the queue, or next to it if the job is short."""
        executor = "default" if queued else "refresh"
        self._scheduler.add_job(self._guarded("", work), IntervalTrigger(seconds=seconds), executor=executor)

    def once(self, name: str, work: Callable[[], None]) -> None:
        """Run a job as soon as the queue is free."""
        self._scheduler.add_job(self._guarded(name, work))

    def start(self) -> None:
        self._scheduler.start()
        self._note_next()

    def stop(self) -> None:
        """Request that the job in progress ends, and wait for it."""
        # APScheduler's own wait holds a lock that the job needs for its last event.
        self._scheduler.shutdown(wait=False)
        for pool in self._pools.values():
            pool.shutdown(wait=True, cancel_futures=True)

    def _guarded(self, name: str, work: Callable[[], None]) -> Callable[[], None]:
        def guarded() -> None:
            begin = self._state.wiring.clock()
            try:
                with self._state.wiring.stop.heeded():
                    work()
            except StoppedError as error:
                log.info("%s: %s", name, error.message)
            except OpsError as error:
                log.error("%s failed: %s; try: %s", name, error.message, error.hint)  # noqa: TRY400 - the message says it
            except Exception:
                log.exception("%s failed", name)
            finally:
                self._note(name, begin)

        return guarded

    def _log_skipped(self, event: JobSubmissionEvent) -> None:
        if event.job_id in self._state.jobs:
            log.warning("%s is skipped once: its previous run is still in progress or waiting", event.job_id)
            self._note_next()

    def _note(self, name: str, begin: datetime) -> None:
        if name in self._state.jobs:
            self._state.jobs[name].last_run = begin
        self._note_next()

    def _note_next(self) -> None:
        for name, known in self._state.jobs.items():
            job = self._scheduler.get_job(name)
            known.next_run = job.next_run_time if job else None
