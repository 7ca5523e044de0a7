"""Tasks that wait for their eta."""

from exporters.tables.groups import Group


class EtaTable:
    """The tasks that are not due yet.

    Args:
        limit: maximum number of tasks that are remembered.
        epoch: the current time, in epoch seconds.

    Attributes:
        entries: ID → (group, epoch seconds).
        epoch: time of the event that is being counted, in epoch seconds.
    """

    __slots__ = ("_limit", "entries", "epoch")

    def __init__(self, limit: int, epoch: float) -> None:
        self.entries: dict[str, tuple[Group, float]] = {}
        self.epoch = epoch
        self._limit = limit

    def wait(self, uuid: str, group: Group, due: float) -> None:
        """Remember a task until it is due, in epoch seconds."""
        if due <= self.epoch:
            self.entries.pop(uuid, None)
        elif len(self.entries) < self._limit:
            self.entries[uuid] = (group, due)

    def forget_due(self, epoch: float) -> None:
        """Forget tasks that were due before this time and never started."""
        self.entries = {uuid: entry for uuid, entry in self.entries.items() if entry[1] > epoch}
