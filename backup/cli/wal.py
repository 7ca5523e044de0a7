"""``python -m backup wal``: the stream of the write-ahead log."""

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import click
from rich.table import Table

from backup.cli.common import json_option, load
from backup.errors import PreflightError, ReplicationError
from backup.physical import lsn, slot
from backup.physical.service import serve as run_service
from backup.physical.slot import SlotStatus
from backup.physical.spans import Span, conflicts, spans
from backup.physical.upkeep import clusters, recoverable, retained_bases
from backup.physical.walsender import WalSender
from backup.targets import ServerTarget
from backup.wiring import Wiring
from sidecar import OpsError, cli
from sidecar.humanize import moment, size


@click.group()
def wal() -> None:
    """Stream the write-ahead log of PostgreSQL servers, for point-in-time recovery.

    \b
    Examples:
      python -m backup wal status
      python -m backup wal serve
    """


@wal.command()
def serve() -> None:
    """Stream the WAL of all servers to the store until stopped.

    \b
    Example:
      BACKUP_SERVERS=main=postgresql://posthub_wal@db:5432/postgres python -m backup wal serve
    """
    run_service(load(store_only=True, service=True))


def server_option(function: Any) -> Any:
    return click.option("--server", "-s", metavar="NAME", help="The server, if several are configured.")(
        function
    )


@wal.command()
@server_option
@json_option
@click.pass_context
def status(ctx: click.Context, server: str | None, as_json: bool) -> None:
    """Show what can be recovered, what is lost, and the server's slot.

    Exit code 1 if nothing can be recovered.

    \b
    Example:
      python -m backup wal status --json
    """
    wiring = load(store_only=True)
    found = [examine(wiring, target) for target in chosen(wiring, server)]
    if as_json:
        cli.print_json([each.facts() for each in found])
    else:
        for each in found:
            each.show()
    ctx.exit(0 if all(each.windows for each in found) else 1)


@wal.command()
@server_option
def release(server: str | None) -> None:
    """Drop the slot of a server that is no longer streamed, so that the server no longer keeps WAL for it.

    \b
    Example:
      python -m backup wal release --server main
    """
    target = load(store_only=True).server(server)
    with WalSender.connect(target.address) as sender:
        try:
            dropped = slot.release(sender)
        except ReplicationError as error:
            raise OpsError(
                f"{target.name}: {error.message}",
                hint="stop the sidecar first: docker compose stop posthub_backup_wal",
            ) from None
    cli.echo(f"{target.name}: the slot {slot.NAME} {'was dropped' if dropped else 'does not exist'}")


def chosen(wiring: Wiring, server: str | None) -> tuple[ServerTarget, ...]:
    return wiring.servers if server is None and wiring.servers else (wiring.server(server),)


@dataclass(frozen=True)
class WindowFacts:
    """A window, by position and by the age of its stored end."""

    base: str
    timeline: int
    start: str
    end: str
    earliest: datetime
    latest: datetime


@dataclass(frozen=True)
class GapFacts:
    timeline: int
    start: str
    end: str
    noticed: datetime
    reason: str


@dataclass(frozen=True)
class Examined:
    """What is known about one server."""

    server: str
    windows: list[WindowFacts]
    gaps: list[GapFacts]
    stretches: list[Span]
    stored_bytes: int
    strangers: int
    conflicts: int
    slot: SlotStatus | None
    problem: str | None

    def facts(self) -> dict[str, Any]:
        known = asdict(self)
        known["stretches"] = [
            {"timeline": span.timeline, "start": lsn.text(span.start), "end": lsn.text(span.end)}
            for span in self.stretches
        ]
        return known

    def show(self) -> None:
        """Print it as text."""
        cli.echo(f"{self.server}: {size(self.stored_bytes)} of WAL stored{self._slot()}")
        table = Table("base backup", "timeline", "recoverable from", "to", box=None)
        for window in self.windows:
            cli.row(
                table,
                window.base,
                str(window.timeline),
                moment(window.earliest),
                f"about {moment(window.latest)}",
            )
        for gap in self.gaps:
            cli.row(table, "GAP", str(gap.timeline), gap.start, f"{gap.end}: {gap.reason}")
        if table.row_count:
            cli.stdout_console().print(table)
        if not self.windows:
            cli.echo(f"nothing can be recovered; take a base backup: python -m backup run -d {self.server}")
        if self.strangers:
            cli.echo(
                f"note: {self.strangers} objects were not written by this deployment and are ignored",
                err=True,
            )
        if self.conflicts:
            cli.echo(
                f"note: {self.conflicts} positions have two different contents: two servers wrote this timeline",
                err=True,
            )

    def _slot(self) -> str:
        if self.slot is None:
            return f"; the server does not answer: {self.problem}"
        if self.slot.retained_bytes is None:
            return f"; its slot: {self.slot.state}"
        return f"; its slot is {self.slot.state}, the server keeps {size(self.slot.retained_bytes)} for it"


def examine(wiring: Wiring, target: ServerTarget) -> Examined:
    """Read the store, and query the server.

    Raises:
        StoreError: the store does not answer.
    """
    known, problem, segment_size = None, None, None
    try:
        with WalSender.connect(target.address) as sender:
            known, segment_size = slot.status(sender.query), sender.segment_size()
    except (PreflightError, ReplicationError) as error:
        problem = error.message
    history = wiring.reader().read(wiring.clock(), [target.name]).history(target.name)
    bases = retained_bases(history.backups)
    sizes = {entry.manifest.physical.segment_size for entry in history.backups if entry.manifest.physical}
    found = [
        cluster
        for each in sorted(sizes | ({segment_size} if segment_size else set()))
        for cluster in clusters(wiring, wiring.store, target.name, each)
    ]
    taken = {each.base.id: each.taken for each in bases}
    return Examined(
        target.name,
        [
            WindowFacts(
                window.base,
                window.timeline,
                lsn.text(window.start),
                lsn.text(window.end),
                taken[window.base],
                latest,
            )
            for cluster in found
            for window, latest in recoverable(wiring, cluster, bases)
        ],
        [
            GapFacts(gap.timeline, lsn.text(gap.start), lsn.text(gap.end), gap.noticed, gap.reason)
            for cluster in found
            for gap in cluster.gaps
        ],
        [span for cluster in found for span in spans(cluster.listing.wal)],
        sum(each.stored.size for cluster in found for each in cluster.listing.wal),
        sum(len(cluster.listing.strangers) for cluster in found),
        sum(len(conflicts(cluster.listing.wal)) for cluster in found),
        known,
        problem,
    )
