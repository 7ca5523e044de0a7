"""Detects clients that behave like beat: they send scheduled tasks and nothing else."""

MAX_CLIENTS = 1_000
# Number of unscheduled tasks of a client that are remembered. One shows that it is not beat. A few more are kept because
# a new schedule is not known at once, and its sender counts as beat again once it is.
MAX_UNSCHEDULED = 8


class Client:
    """When one client last sent each task: scheduled ones, and some of the others."""

    __slots__ = ("newest", "scheduled", "unscheduled")

    def __init__(self) -> None:
        self.scheduled: dict[str, float] = {}
        self.unscheduled: dict[str, float] = {}
        self.newest = 0.0

    def as_beat(self, names: frozenset[str]) -> dict[str, float]:
        """When it sent each task, if it is beat; empty if it also sent other tasks."""
        unscheduled = dict(self.unscheduled)
        return {} if unscheduled.keys() - names else {**unscheduled, **self.scheduled}


class BeatSenders:
    """The clients that send tasks, and which of them is beat as far as the schedules are known."""

    def __init__(self) -> None:
        # Names are only added: a task whose schedule was removed was still sent by beat.
        self.names: frozenset[str] = frozenset()
        self._clients: dict[str, Client] = {}
        # The tasks that forgotten clients sent as beat.
        self._kept: dict[str, float] = {}

    def sent(self, client: str, name: str, at: float) -> None:
        """Note that a client sent a task."""
        known = self._clients.get(client) or self._new(client)
        known.newest = at
        if name in self.names:
            known.scheduled[name] = at
        elif name in known.unscheduled or len(known.unscheduled) < MAX_UNSCHEDULED:
            known.unscheduled[name] = at

    def last_sent(self) -> dict[str, float]:
        """When beat last sent each scheduled task."""
        newest = dict(self._kept)
        for client in list(self._clients.values()):
            _join(newest, client.as_beat(self.names))
        return newest

    def _new(self, name: str) -> Client:
        if len(self._clients) >= MAX_CLIENTS:
            self._forget_half()
        client = self._clients[name] = Client()
        return client

    def _forget_half(self) -> None:
        by_age = sorted(self._clients, key=lambda name: self._clients[name].newest)
        for name in by_age[: len(by_age) // 2]:
            _join(self._kept, self._clients.pop(name).as_beat(self.names))


def _join(newest: dict[str, float], other: dict[str, float]) -> None:
    for name, at in list(other.items()):
        newest[name] = max(at, newest.get(name, 0.0))
