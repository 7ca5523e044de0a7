"""The workers of one broker, and the hosts that tasks are counted under."""

from dataclasses import dataclass

from exporters.decode import Event
from exporters.exposition.families import OVERFLOW, clean
from exporters.tables.budget import Budget
from exporters.tables.connection import Connection
from exporters.tables.workers import Host, HostTracks, Liveness, SharedHost, Worker, worker_labels

# Seconds. Clients send no heartbeats, and a client that rarely sends tasks must keep its series in between.
CLIENTS_STAY = 3600.0
MAX_CLIENTS = 1_000


@dataclass(frozen=True)
class Labels:
    """The content of the ``hostname`` label of task metrics.

    Attributes:
        worker: ``node`` (full node name), ``host`` (its machine) or ``generic``.
        client: ``host`` or ``generic``, for task-sent.
        unknown_queue: the queue label if neither an event nor a message names the queue.
    """

    worker: str = "node"
    client: str = "host"
    unknown_queue: str = "unknown"


class Roster:
    """Workers and hosts, created when the first event names them, up to a limit.

    Args:
        budget: the budget of series per host.
        most: maximum number of workers that have their own series.
        labels: the content of the host label.
        liveness: when a worker is down and when it is forgotten.
        per_host: whether tasks are counted per host at all.

    Attributes:
        connection: the connection that the workers' events arrive through.
    """

    def __init__(
        self, budget: Budget, *, most: int, labels: Labels, liveness: Liveness, per_host: bool
    ) -> None:
        self.workers: dict[str, Worker] = {}
        self.hosts: dict[str, Host] = {}
        self.liveness = liveness
        # Local monotonic and epoch time of the event that is being counted.
        self.now = 0.0
        self.epoch = 0.0
        self.connection = Connection(self.workers, self.hosts)
        # Nodes that have answered an inspect request, up to the number of workers.
        self.replied = False
        self._budget = budget
        self._most = most
        self._labels = labels
        self._shared = None if per_host else SharedHost()
        # Hosts by the names of their clients.
        self._clients: dict[str, Host] = {}
        self._lost_by_purged = 0
        self._hosts_purged_at = 0.0

    # Events

    def heartbeat(self, event: Event) -> None:
        """Handle a worker-online or worker-heartbeat event."""
        _check_named(event)
        self.worker(event.hostname).heartbeat(event, self.now, self.epoch)

    def offline(self, event: Event) -> None:
        """Handle a worker-offline event: a warm shutdown, in which the worker finishes its tasks."""
        _check_named(event)
        self.worker(event.hostname).announce_shutdown(event.active, self.now)

    def worker(self, node: str) -> Worker:
        """The worker of this name, created when the first event names it."""
        worker = self.workers.get(node) or self._new_worker(node)
        worker.heard = self.now
        return worker

    def answered(self, node: str, now: float) -> Worker | None:
        """The worker that replied to an inspect request; None if there is no room for it.

        A reply shows that the worker is alive. It arrives on a different thread from the events.
        """
        name = clean(node)
        worker = self.workers.get(name)
        if worker is None:
            if len(self.workers) >= self._most:
                return None
            worker = self._new_worker(name)
        worker.replied = worker.heard = now
        return worker

    def client_host(self, client: str) -> HostTracks:
        """The host of a sender. Its process ID (``gen1234@host``) must never become a series."""
        if self._shared is not None:
            return self._shared
        host = self._clients.get(client)
        if host is None:
            label = "generic" if self._labels.client == "generic" else host_of(client)
            if len(self._clients) >= MAX_CLIENTS:
                self._clients.clear()
            host = self._clients[client] = self.hosts.get(label) or self._host(label)
        host.heard = self.now
        return host

    def _new_worker(self, node: str) -> Worker:
        name = clean(node) or "unknown"
        if name in self.workers:
            return self.workers[name]
        if len(self.workers) >= self._most:
            self._budget.turn_away("workers")
            return Worker(name, self._shared or self._host(OVERFLOW), "")
        host = self._shared or self._host(self._worker_label(name))
        worker = self.workers[name] = Worker(name, host, worker_labels(name))
        return worker

    def _worker_label(self, node: str) -> str:
        if self._labels.worker == "generic":
            return "generic"
        return host_of(node) if self._labels.worker == "host" else node

    def _host(self, label: str) -> Host:
        if label not in self.hosts and len(self.hosts) >= 2 * self._most:
            label = OVERFLOW
        return self.hosts.setdefault(label, Host(label, self._budget))

    # What is read

    def alive(self) -> list[Worker]:
        """The workers that are up now."""
        now = self.connection.observed_at()
        return [worker for worker in list(self.workers.values()) if worker.up(now, self.liveness)]

    def shown(self) -> list[Worker]:
        """The workers that have series: those that sent a heartbeat or a reply, and have not shut down cleanly."""
        return [worker for worker in list(self.workers.values()) if worker.is_known and not worker.is_gone]

    @property
    def lost(self) -> int:
        """Task starts that workers counted but for which no event arrived."""
        return self._lost_by_purged + sum(worker.ledger.lost for worker in list(self.workers.values()))

    # Forgetting

    def purge(self, now: float) -> list[str]:
        """Forget workers and clients that have been silent for too long; returns the names of the workers."""
        limit = self.liveness.purge
        if limit <= 0:
            return []
        gone = [worker for worker in list(self.workers.values()) if now - worker.heard > limit]
        for worker in gone:
            del self.workers[worker.node]
            self._lost_by_purged += worker.ledger.lost
        if gone or now - self._hosts_purged_at > limit:
            self._hosts_purged_at = now
            self._purge_hosts(now - max(limit, CLIENTS_STAY))
        return [worker.node for worker in gone]

    def _purge_hosts(self, since: float) -> None:
        self._clients.clear()
        kept = {worker.host.label for worker in self.workers.values()} | {"generic", OVERFLOW}
        for label, host in list(self.hosts.items()):
            if host.label not in kept and host.heard < since:
                host.purge()
                del self.hosts[label]


def host_of(node: str) -> str:
    """The machine in a node's or client's name."""
    return node.partition("@")[2] or node


def _check_named(event: Event) -> None:
    if not event.hostname:
        raise ValueError("a worker's event needs its node name")
