"""Whether events can arrive: while they cannot, the silence of a worker means nothing."""

import time
from collections.abc import Mapping

from exporters.tables.workers import Host, Worker


class Connection:
    """The connection that events arrive through. Its loss stops the clock by which workers are judged.

    Args:
        workers: the workers by node name.
        hosts: the hosts by label.
    """

    def __init__(self, workers: Mapping[str, Worker], hosts: Mapping[str, Host]) -> None:
        self._workers = workers
        self._hosts = hosts
        # Monotonic time since which no events can arrive; None while they can.
        self._lost_at: float | None = None

    def observed_at(self) -> float:
        """The time for which the state of workers is evaluated: now, or the time at which events stopped arriving."""
        return self._lost_at or time.monotonic()

    def lost(self) -> None:
        """Note that no events can arrive from now on."""
        if self._lost_at is None:
            self._lost_at = time.monotonic()

    def blocked(self) -> None:
        """Note that no worker has been able to publish since the newest heartbeat, so their silence means nothing."""
        if self._lost_at is None:
            heartbeats = [worker.seen for worker in list(self._workers.values()) if worker.seen is not None]
            self._lost_at = max(heartbeats, default=time.monotonic())

    def restored(self) -> None:
        """Note that events arrive again, and restart the timeout of every live worker."""
        self._lost_at, now = None, time.monotonic()
        for worker in list(self._workers.values()):
            worker.heard = max(worker.heard, now)
            if worker.seen is not None and not worker.offline:
                worker.seen = max(worker.seen, now)
        for host in list(self._hosts.values()):
            host.heard = max(host.heard, now)
