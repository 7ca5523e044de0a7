"""The status page: queues, workers, tasks and beat, from what is in memory. It sends no request to a broker."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from exporters.beat.collector import Beat, Entry
from exporters.pipeline import Pipeline
from exporters.queues.collector import Consumers
from exporters.queues.model import Queue
from exporters.tables.groups import FAILED, RETRIED, SENT, STARTED, SUCCEEDED, Group, Track
from exporters.tables.histogram import Histogram
from exporters.tables.workers import Worker
from sidecar import html
from sidecar.html import text
from sidecar.humanize import duration

# Maximum number of lines in each table; the metrics have all of them.
MAX_QUEUES = 100
MAX_WORKERS = 200
MAX_TASKS = 100
MAX_SCHEDULES = 100
# Maximum number of a worker's queues that are listed.
MAX_NAMES = 8

Rated = dict[Group, list[float]] | None


@dataclass(frozen=True)
class View:
    """One broker at one moment.

    Attributes:
        totals: the counts of each task on each queue.
        rates: events per minute by state; None until there is something to compare with.
        now: epoch seconds.
    """

    pipeline: Pipeline
    workers: Sequence[Worker]
    alive: frozenset[str]
    totals: Sequence[tuple[Group, Track]]
    rates: Rated
    now: float

    def rate(self, group: Group, state: int) -> float:
        """Events per minute of one task on one queue; 0 if that is not known."""
        return self.rates.get(group, [0.0] * (state + 1))[state] if self.rates else 0.0

    def rate_of_all(self, state: int) -> float | None:
        return None if self.rates is None else sum(each[state] for each in self.rates.values())


def render(pipelines: Sequence[tuple[Pipeline, Sequence[str]]], beat: Beat, now: float) -> str:
    """The content of the page.

    Args:
        pipelines: each with advice about the set-up of its workers.
        now: epoch seconds.
    """
    parts = []
    for pipeline, advice in pipelines:
        name = f"<h2>Broker {text(pipeline.broker.name)}</h2>" if len(pipelines) > 1 else ""
        parts.append(name + _broker(_view(pipeline, now), advice))
    links = " · ".join(html.link(path, path) for path in ("/metrics", "/healthz", "/readyz"))
    return f'{"".join(parts)}{_beat(beat, now)}<p class="dim">{links}</p>'


def _view(pipeline: Pipeline, now: float) -> View:
    totals = [(group, group.total()) for group in pipeline.state.groups]
    counts = {group: list(total.counts) for group, total in totals}
    at, rates = time.monotonic(), pipeline.tasks.rates
    known = rates.per_minute(at, counts)
    rates.note(at, counts.items())
    roster = pipeline.state.roster
    alive = frozenset(worker.node for worker in roster.alive())
    return View(pipeline, roster.shown(), alive, totals, known, now)


def _broker(view: View, advice: Sequence[str]) -> str:
    return "".join(
        (
            _state(view),
            "".join(html.notice("warn", f"{each}.") for each in advice),
            _cards(view),
            "<h2>Queues</h2>",
            _queues(view),
            "<h2>Workers</h2>",
            _workers(view),
            "<h2>Tasks</h2>",
            _tasks(view),
            "<h2>Last failures</h2>",
            _failures(view),
        )
    )


def _state(view: View) -> str:
    """Whether the figures on the page can be trusted, and whether all workers are alive."""
    pipeline = view.pipeline
    health, address = pipeline.receiver.health, pipeline.broker.shown
    since = duration(time.monotonic() - health.changed_at)
    if not health.connected:
        return html.notice("bad", f"Disconnected from {address} for {since}: {health.error}")
    if health.blocked:
        return html.notice("bad", health.blocked)
    down = [worker.node for worker in view.workers if worker.node not in view.alive]
    if down:
        more = f" and {len(down) - MAX_NAMES} more" if len(down) > MAX_NAMES else ""
        return html.notice("bad", f"Down: {', '.join(sorted(down)[:MAX_NAMES])}{more}")
    missing = pipeline.ready()
    if missing:
        return html.notice("warn", missing)
    lost = (
        "every event was counted"
        if pipeline.complete()
        else "events were missed lately: counts may be too low"
    )
    return html.notice(
        "good" if pipeline.complete() else "warn", f"Connected to {address} for {since}; {lost}"
    )


def _cards(view: View) -> str:
    queues = view.pipeline.queues.snapshot.queues.values()
    oldest = max((queue.oldest_age for queue in queues if queue.oldest_age is not None), default=None)
    active = sum(worker.active or 0 for worker in view.workers if worker.node in view.alive)
    size = sum(worker.pool_size or 0 for worker in view.workers if worker.node in view.alive)
    up = sum(worker.node in view.alive for worker in view.workers)
    failed = view.rate_of_all(FAILED)
    cards = [
        html.card(
            "workers up", f"{up} of {len(view.workers)}", kind="" if up == len(view.workers) else "bad"
        ),
        html.card("tasks running", f"{active:,}", f"of {size:,} processes" if size else ""),
        html.card(
            "waiting in queues",
            f"{sum(queue.length or 0 for queue in queues):,}",
            f"the oldest for {duration(oldest)}" if oldest else "",
        ),
        html.card("tasks started", _rate(view.rate_of_all(STARTED)), "in the last minute"),
        html.card("tasks failed", _rate(failed), "in the last minute", "bad" if failed else ""),
        html.card(
            "events counted", f"{sum(view.pipeline.state.types.values()):,}", "since the exporter started"
        ),
    ]
    return f'<div class="cards">{"".join(cards)}</div>'


def _queues(view: View) -> str:
    known = dict(view.pipeline.queues.snapshot.queues)
    consumers = Consumers(view.pipeline.state)
    names = sorted({*known, *consumers.queues}, key=lambda name: (-_length(known.get(name)), name))
    if not names:
        return '<p class="dim">None is known yet.</p>'
    rates = _by_queue(view)
    rows = [_queue(name, known.get(name), consumers, rates.get(name), view) for name in names[:MAX_QUEUES]]
    heads = ("queue", "waiting", "oldest", "unacknowledged", "consumers", "sent", "started")
    return html.table(heads, rows, numbers=range(1, 7), kind="stack") + _rest(len(names) - len(rows))


def _length(queue: Queue | None) -> int:
    return (queue.length or 0) if queue else 0


def _queue(
    name: str, queue: Queue | None, consumers: Consumers, rates: tuple[float, float] | None, view: View
) -> Sequence[str]:
    count = queue.consumers if queue and queue.consumers is not None else consumers.count(name)
    shown = html.marked("0", "bad") if count == 0 and _length(queue) else _number(count)
    age = duration(queue.oldest_age) if queue and queue.length and queue.oldest_age is not None else "–"
    sent, started = rates or (0.0, 0.0)
    return (
        text(name),
        _number(queue.length if queue else None),
        text(age),
        _number(queue.unacked if queue else None),
        shown,
        _rate(sent if view.rates is not None else None),
        _rate(started if view.rates is not None else None),
    )


def _by_queue(view: View) -> dict[str, tuple[float, float]]:
    """Tasks sent to and started from each queue, per minute."""
    found: dict[str, tuple[float, float]] = {}
    for group, _ in view.totals:
        if group.queue_name is not None:
            sent, started = found.get(group.queue_name, (0.0, 0.0))
            found[group.queue_name] = (
                sent + view.rate(group, SENT),
                started + view.rate(group, STARTED),
            )
    return found


def _workers(view: View) -> str:
    if not view.workers:
        return '<p class="dim">None has sent a heartbeat or replied yet.</p>'
    workers = sorted(view.workers, key=lambda worker: (worker.node in view.alive, worker.node))
    rows = [_worker(worker, view) for worker in workers[:MAX_WORKERS]]
    heads = ("worker", "state", "running", "processes", "started", "load", "last heartbeat", "queues")
    return html.table(heads, rows, numbers=range(2, 6), kind="stack") + _rest(len(workers) - len(rows))


def _worker(worker: Worker, view: View) -> Sequence[str]:
    up = worker.node in view.alive
    state = html.marked("stopping", "warn") if worker.offline else html.marked("up", "good")
    beat = f"{duration(max(0.0, view.now - worker.heartbeat_at))} ago" if worker.heartbeat_at else "–"
    names = ", ".join(worker.queues[:MAX_NAMES]) + (" …" if len(worker.queues) > MAX_NAMES else "")
    return (
        text(worker.node),
        state if up else html.marked("down", "bad"),
        _number(worker.active if up else 0),
        _number(worker.pool_size),
        _number(worker.processed),
        "–" if worker.load1 is None else f"{worker.load1:.2f}",
        text(beat),
        text(names) if worker.queues_known else "–",
    )


def _tasks(view: View) -> str:
    used = [(group, total) for group, total in view.totals if any(total.counts)]
    used.sort(key=lambda each: (-view.rate(each[0], STARTED), -each[1].counts[STARTED], each[0].name))
    if not used:
        return '<p class="dim">No task event has arrived yet.</p>'
    rows = [_task(group, total, view) for group, total in used[:MAX_TASKS]]
    heads = ("task", "queue", "started", "succeeded", "failed", "retried", "mean run time", "mean wait")
    return html.table(heads, rows, numbers=range(2, 8), kind="stack") + _rest(len(used) - len(rows))


def _task(group: Group, total: Track, view: View) -> Sequence[str]:
    counts = total.counts
    failed = f"{counts[FAILED]:,}"
    return (
        text(group.name),
        text(group.queue),
        _rate(view.rate(group, STARTED) if view.rates is not None else None),
        f"{counts[SUCCEEDED]:,}",
        html.marked(failed, "bad") if counts[FAILED] else failed,
        f"{counts[RETRIED]:,}",
        text(_mean(total.runtime)),
        text(_mean(total.wait)),
    )


def _mean(histogram: Histogram | None) -> str:
    count = sum(histogram.counts) if histogram else 0
    return duration(histogram.total / count) if histogram and count else "–"


def _failures(view: View) -> str:
    found = view.pipeline.state.ends.failures.newest_first()
    if not found:
        return '<p class="dim">None since the exporter started.</p>'
    rows = [
        (
            text(f"{duration(max(0.0, view.now - each.at))} ago"),
            text(each.task),
            text(each.exception),
            text(each.worker),
            text(each.queue),
            f"<code>{text(each.id)}</code>",
        )
        for each in found
    ]
    return html.table(("when", "task", "exception", "worker", "queue", "ID"), rows, kind="stack")


def _beat(beat: Beat, now: float) -> str:
    if beat.up is None and not beat.entries:
        return ""
    state = (
        html.marked("not known", "dim")
        if beat.up is None
        else html.marked("sends what is due", "good")
        if beat.up
        else html.marked("down: something is due and nothing is sent", "bad")
    )
    sent = f", last sent {duration(max(0.0, now - beat.last_sent))} ago" if beat.last_sent else ""
    entries = sorted(beat.entries, key=lambda each: (-each.overdue(now), each.due or float("inf")))
    rows = [_entry(each, now) for each in entries[:MAX_SCHEDULES]]
    heads = ("schedule", "task", "last run", "next run", "enabled")
    table = html.table(heads, rows, kind="stack") + _rest(len(entries) - len(rows)) if rows else ""
    return f"<h2>Beat</h2><p>{state}{sent}</p>{table}"


def _entry(each: Entry, now: float) -> Sequence[str]:
    last = f"{duration(max(0.0, now - each.last_run))} ago" if each.last_run is not None else "never"
    late = each.overdue(now)
    due = html.marked(f"due for {duration(late)}", "warn") if late else "–"
    if each.due is not None and not late:
        due = text(f"in {duration(each.due - now)}")
    return (
        text(each.schedule.name),
        text(each.schedule.task),
        text(last),
        due,
        "yes" if each.schedule.enabled else html.marked("no", "dim"),
    )


def _number(value: int | None) -> str:
    return "–" if value is None else f"{value:,}"


def _rate(per_minute: float | None) -> str:
    """Events per minute."""
    if per_minute is None:
        return "–"
    return f"{per_minute:,.0f}/min" if per_minute >= 10 or per_minute == 0 else f"{per_minute:.1f}/min"


def _rest(count: int) -> str:
    return (
        f'<p class="dim">and {count:,} more: see {html.link("/metrics", "the metrics")}</p>'
        if count > 0
        else ""
    )
