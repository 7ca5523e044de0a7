"""Metrics of the event stream: the connection, losses, lag."""

from collections.abc import Callable, Iterable

from exporters.events.receiver import Health
from exporters.events.redis import Backlog
from exporters.exposition.families import Family, counter, gauge, label_text
from exporters.tables.state import EventState


class StreamCollector:
    """Reports how complete the event stream is.

    Args:
        state: the state that counts the events.
        health: the health of the connection.
        backlog: the frames that wait to be decoded.
        broker: the name of the broker.
        output_buffer: bytes that Redis buffers for the connection; None if not known.
        complete: whether no recent loss is known.
    """

    name = "stream"

    def __init__(
        self,
        state: EventState,
        health: Health,
        backlog: Backlog,
        *,
        broker: str,
        output_buffer: Callable[[], int | None],
        complete: Callable[[], bool],
    ) -> None:
        self._state = state
        self._health = health
        self._backlog = backlog
        self._broker = label_text(broker=broker)
        self._output_buffer = output_buffer
        self._complete = complete

    def collect(self) -> Iterable[Family]:
        state, prefix = self._state, "celery_exporter"
        yield gauge(
            f"{prefix}_broker_up",
            "Whether the exporter is subscribed to the broker's events, and the broker accepts messages.",
            [(self._broker, int(self._health.hears))],
        )
        yield gauge(
            f"{prefix}_events_complete",
            "1 while subscribed and nothing is known to have been lost in the last minutes.",
            [("", int(self._complete()))],
        )
        yield counter(
            f"{prefix}_events",
            "Events counted, by type.",
            [(label_text(type=kind), count) for kind, count in sorted(state.types.items())],
        )
        yield counter(
            f"{prefix}_events_lost",
            "Task starts that a worker reports in its heartbeats and that no event announced.",
            [(w.labels, w.ledger.lost) for w in state.roster.shown() if w.seen is not None],
        )
        yield from self._single(prefix)

    def _single(self, prefix: str) -> Iterable[Family]:
        state, tasks = self._state, self._state.tasks
        counts = (
            (
                "events_dropped",
                "Frames dropped because the exporter's backlog was full.",
                self._backlog.dropped,
            ),
            ("events_undecodable", "Frames and events that are not Celery events.", state.undecodable),
            ("disconnects", "Times that the event connection was lost.", self._health.disconnects),
            (
                "events_repeated",
                "Ends of tasks that were reported a second time and counted once.",
                state.ends.repeated,
            ),
            ("tasks_evicted", "Tasks in flight that were forgotten, by age or sampling.", tasks.evicted),
        )
        for name, help_, count in counts:
            yield counter(f"{prefix}_{name}", help_, [("", count)])
        yield counter(
            f"{prefix}_series_capped",
            "Times that a limit kept something from getting its own series.",
            [(label_text(limit=limit), count) for limit, count in state.budget.turned_away.items()],
        )
        gauges = (
            (
                "event_lag_seconds",
                "Seconds from the newest event's timestamp until it was counted.",
                state.lag,
            ),
            ("backlog_bytes", "Bytes read from the broker and not yet counted.", self._backlog.bytes),
            ("output_buffer_bytes", "Bytes in the exporter's output buffer in Redis.", self._output_buffer()),
            ("series", "Series of tasks and workers.", state.series),
            ("tasks_in_flight", "Tasks that are joined by their ID.", len(tasks)),
            (
                "waiting_tasks_sampled_ratio",
                "Share of waiting tasks whose waiting time is known.",
                tasks.sampled,
            ),
        )
        for name, help_, value in gauges:
            yield gauge(f"{prefix}_{name}", help_, [] if value is None else [("", value)])
