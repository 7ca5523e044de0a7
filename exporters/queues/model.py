"""What is known of each queue, whichever broker it is on."""

from dataclasses import dataclass, field
from typing import Protocol

from exporters.tables.state import EventState


@dataclass
class Queue:
    """One queue as the last round saw it.

    Attributes:
        length: waiting messages.
        unacked: delivered and not acknowledged; None where the broker does not say.
        oldest_age: seconds that the oldest message has waited; None where that is not known.
        age_is_known: False when the age is 0 only because nobody looked before: no answer for a single look.
        consumers: by the broker's own count (RabbitMQ); None where only workers know.
    """

    length: int = 0
    unacked: int | None = None
    oldest_age: float | None = None
    age_is_known: bool = True
    consumers: int | None = None


@dataclass
class Snapshot:
    """All queues after one round.

    Attributes:
        queues: by name.
        output_buffer: of the exporter's event connection at Redis, in bytes.
        left_out: queues beyond the number that is shown.
        refused: why the broker did not answer about a queue, one text per queue.
        is_whole: whether every place that names queues has been searched once.
    """

    queues: dict[str, Queue] = field(default_factory=dict)
    output_buffer: int | None = None
    left_out: int = 0
    refused: list[str] = field(default_factory=list)
    is_whole: bool = True


class Poller(Protocol):
    """Asks one broker about its queues."""

    def poll(self) -> Snapshot:
        """One round; raises when the broker cannot be asked."""

    def close(self) -> None: ...


def names_from(state: EventState) -> set[str]:
    """Queues that task events and workers name."""
    groups = state.groups
    named = {group.queue_name for group in (*groups, groups.overflow, groups.unknown) if group.queue_name}
    return named | {queue for worker in list(state.roster.workers.values()) for queue in worker.queues}
