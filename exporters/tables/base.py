"""The base of the classes that count task events."""

from exporters.tables.eta import EtaTable
from exporters.tables.groups import Groups
from exporters.tables.host_series import HostSeries
from exporters.tables.inflight import InFlight
from exporters.tables.roster import Roster


class TaskEvents:
    """The tables that the handlers of task events share.

    Args:
        roster: the workers and hosts that tasks run on.
        groups: the pairs of task and queue.
        tasks: the join by ID.
        eta: tasks that wait for their eta.
        series: the series of each host.
    """

    def __init__(
        self, roster: Roster, groups: Groups, tasks: InFlight, eta: EtaTable, series: HostSeries
    ) -> None:
        self._roster = roster
        self._workers = roster.workers
        self._groups = groups
        self._tasks = tasks
        self._eta = eta
        self._series = series
        self._at = groups.by_index
        self._overflow = groups.overflow
