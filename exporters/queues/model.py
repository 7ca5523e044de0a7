"""The state of queues, for every kind of broker."""

from dataclasses import dataclass, field
from typing import Protocol

from exporters.tables.state import EventState


@dataclass
class Queue:
    """One queue in the last round.

    Attributes:
        length: number of waiting messages; None if not known.
        unacked: number of delivered, unacknowledged messages; None if the broker does not report it.
        oldest_age: seconds that the oldest message has waited; None if not known.
        age_is_known: False if the age is 0 only because this is the first poll; then it is useless for a one-off query.
        consumers: the broker's own count (RabbitMQ); None if only workers know.
    """

    length: int | None = 0
    unacked: int | None = None
    oldest_age: float | None = None
    age_is_known: bool = True
    consumers: int | None = None


@dataclass
class Snapshot:
    """All queues after one round.

    Attributes:
        queues: by name.
        output_buffer: size of Redis's output buffer for the exporter's event connection, in bytes.
        left_out: number of queues beyond the limit.
        refused: the broker's reasons for not answering about a queue, one per queue.
        blocked: why the broker accepts no messages; None if the poller does not know.
        is_whole: whether every source of queue names has been searched once.
    """

    queues: dict[str, Queue] = field(default_factory=dict)
    output_buffer: int | None = None
    left_out: int = 0
    refused: list[str] = field(default_factory=list)
    blocked: str | None = None
    is_whole: bool = True


class Poller(Protocol):
    """Polls the queues of one broker."""

    def poll(self) -> Snapshot:
        """Poll once; raises if the broker cannot be polled."""

    def close(self) -> None: ...


# Queues of event receivers and of broadcasts: each process has its own, under a new name each time.
OF_ONE_PROCESS = ("celeryev.", "bcast.")


def names_from(state: EventState) -> set[str]:
    """Queues that task events and workers name."""
    groups = state.groups
    named = {group.queue_name for group in (*groups, groups.overflow, groups.unknown) if group.queue_name}
    consumed = {queue for worker in list(state.roster.workers.values()) for queue in worker.queues}
    return named | {queue for queue in consumed if not queue.startswith(OF_ONE_PROCESS)}
