"""Forgets tasks whose events were lost: those that never ended, and those that were due and never started."""

from exporters.tables.eta import EtaTable
from exporters.tables.inflight import InFlight

# Tasks whose end never arrives are forgotten after one to two of these.
GENERATION_SECONDS = 24 * 3600.0
# Tasks whose eta has passed leave the table at this interval.
ETA_SECONDS = 60.0


class Expiry:
    """Removes old tasks from the tables of one broker, at intervals.

    Args:
        tasks: tasks that have not ended.
        eta: tasks that wait for their eta.
    """

    def __init__(self, tasks: InFlight, eta: EtaTable) -> None:
        self._tasks = tasks
        self._eta = eta
        self._aged_at: float | None = None
        self._eta_aged_at = 0.0

    def forget(self, now: float, epoch: float) -> None:
        """Forget what is old, if it is time to.

        Args:
            now: local monotonic time.
            epoch: the same moment in epoch seconds.
        """
        if now - self._eta_aged_at > ETA_SECONDS:
            self._eta_aged_at = now
            self._eta.forget_due(epoch)
        if self._aged_at is None:
            self._aged_at = now
        elif now - self._aged_at > GENERATION_SECONDS:
            self._aged_at = now
            self._tasks.age()
            self._tasks.forget_before(epoch - GENERATION_SECONDS)
