"""The output of the commands. ``serve`` does not load it, which saves the memory of the table library."""

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.live import Live
from rich.markup import escape
from rich.table import Table

from exporters.report import Findings, QueueFacts
from sidecar.cli import row as table_row
from sidecar.cli import stdout_console

# The fields of an event that a line shows.
SHOWN = ("name", "queue", "runtime", "exception", "retries", "eta", "active", "processed")


def event_line(event: Mapping[str, Any]) -> str:
    """One event as a line for people."""
    parts = [f"{key}={event[key]}" for key in SHOWN if event.get(key) not in (None, 0, "")]
    heads = [str(event.get(key, "?")) for key in ("type", "hostname")]
    return plain(
        f"{_time(event.get('timestamp'))} {heads[0]:<17} {heads[1]} {event.get('uuid', '')} {' '.join(parts)}"
    )


def _time(stamp: Any) -> str:
    try:
        return datetime.fromtimestamp(stamp).strftime("%H:%M:%S.%f")[:-3]  # noqa: DTZ006 - the reader's own zone
    except (TypeError, ValueError, OverflowError, OSError):
        return "?"


def plain(text: str) -> str:
    """Untrusted text without control characters."""
    return "".join(char if char.isprintable() else "�" for char in text)


def shown(text: str) -> str:
    """Untrusted text for a console: no control characters, no markup."""
    return escape(plain(text))


def print_findings(findings: Findings) -> None:
    """Print what a check found."""
    console = stdout_console()
    state = "subscribed" if findings.subscribed else "not subscribed"
    console.print(
        f"[bold]{shown(findings.broker)}[/bold] {shown(findings.address)}: {state}, listened {findings.seconds:g} s"
    )
    if findings.workers:
        table = Table("worker", "up", "active", "processed", "pool", "queues")
        for worker in findings.workers:
            row = (
                plain(worker.node),
                "yes" if worker.up else "no",
                _shown(worker.active),
                _shown(worker.processed),
                _shown(worker.pool_size),
            )
            table_row(table, *row, "?" if worker.queues is None else plain(",".join(worker.queues)))
        console.print(table)
    if findings.queues:
        console.print(queue_table([(findings.broker, findings.queues)]))
    counted = ", ".join(f"{kind} {count}" for kind, count in sorted(findings.events.items())) or "none"
    console.print(f"events: {shown(counted)}; undecodable {findings.undecodable}", highlight=False)
    for problem in findings.problems:
        console.print(f"[red]Error:[/red] {shown(problem)}", highlight=False)
    for hint in findings.hints:
        console.print(f"[yellow]Try:[/yellow] {shown(hint)}", highlight=False)
    if findings.ok:
        console.print("[green]ok[/green]")


# The queues of each broker, by its name.
Seen = Sequence[tuple[str, list[QueueFacts]]]


def queue_table(seen: Seen) -> Table:
    """Queues as a table; the broker is named when there are several."""
    several = len(seen) > 1
    table = Table(*(["broker"] if several else []), "queue", "length", "unacked", "oldest", "consumers")
    for broker, facts in seen:
        for queue in facts:
            cells = (
                plain(queue.queue),
                _shown(queue.length),
                _shown(queue.unacked),
                _age(queue.oldest_seconds),
            )
            table_row(table, *([plain(broker)] if several else []), *cells, _shown(queue.consumers))
    return table


def _shown(value: int | None) -> str:
    return "?" if value is None else str(value)


def _age(seconds: float | None) -> str:
    if seconds is None:
        return "?"
    return f"{seconds:.1f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def print_queues(seen: Seen) -> None:
    """Print queues as a table."""
    stdout_console().print(queue_table(seen))


def watch_queues(look: Callable[[], Seen], interval: float) -> None:
    """Show queues until the process is interrupted.

    Args:
        look: reads the queues.
        interval: seconds between two readings.
    """
    with Live(queue_table([]), console=stdout_console(), auto_refresh=False) as live:
        while True:
            live.update(queue_table(look()), refresh=True)
            time.sleep(interval)
