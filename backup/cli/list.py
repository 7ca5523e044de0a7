"""``python -m backup list``."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from backup.catalogue.history import Broken, Catalogue, Entry, History
from backup.cli.common import as_moment, database_option, json_option, load
from backup.replication.merged import read
from backup.wiring import Wiring
from sidecar import UsageError, cli
from sidecar.humanize import counted, duration, size

STATES = (
    "verified",
    "unverified",
    "unprovable",
    "FAILED",
    "incomplete",
    "unlike",
    "on hold",
    "unsigned",
    "FORGED",
    "REPLAYED",
)
_STYLES = {"verified": "green", "unverified": "", "unprovable": "yellow"}


@click.command("list")
@click.option(
    "-n", "--limit", type=click.IntRange(1), metavar="N", help="Only the newest N of each database."
)
@click.option(
    "--since",
    metavar="TIME",
    callback=as_moment,
    help="Only those taken since TIME: 2d, 2026-11-28, 2026-11-28T14:00.",
)
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice(STATES, case_sensitive=False),
    metavar="STATE",
    help="Only those in this state, such as verified, FAILED or unlike; repeatable.",
)
@database_option
@json_option
def list_backups(
    limit: int | None, since: datetime | None, states: tuple[str, ...], database: str | None, as_json: bool
) -> None:
    """List the backups in the store, newest first.

    The beginning of an ID is the start of its run, in UTC. Other commands also accept the end of an ID, such as ab12cd.

    \b
    Examples:
      python -m backup list -n 10
      python -m backup list --since 7d --state FAILED --state unlike
    """
    wiring = load(store_only=True)
    catalogue = read(wiring, [database] if database else None)
    if database and database not in catalogue.databases:
        raise _unknown(wiring, database)
    shown = {name: _chosen(history, since, states)[:limit] for name, history in catalogue.databases.items()}
    if as_json:
        entries = [entry for chosen in shown.values() for entry in chosen]
        cli.print_json(
            [_facts(entry) for entry in sorted(entries, key=lambda entry: entry.order, reverse=True)]
        )
    else:
        _show(wiring, catalogue, shown)


def _unknown(wiring: Wiring, database: str) -> UsageError:
    known = ", ".join(read(wiring).databases) or "none"
    return UsageError(
        f"{wiring.store.url} has no backup of {database}", hint=f"databases that have backups there: {known}"
    )


def _chosen(history: History, since: datetime | None, states: tuple[str, ...]) -> list[Entry]:
    """The backups of a database that match the options, newest first."""
    found = sorted((*history.backups, *history.others), key=lambda entry: entry.order, reverse=True)
    return [
        entry
        for entry in found
        if (since is None or entry.manifest.taken >= since) and (not states or _is_in(entry, states))
    ]


def _is_in(entry: Entry, states: tuple[str, ...]) -> bool:
    return any(state in entry.label.split(", ") for state in states)


def _facts(entry: Entry) -> dict[str, Any]:
    manifest = entry.manifest
    return {
        "id": entry.id,
        "database": manifest.database,
        "kind": manifest.kind,
        "taken": manifest.taken,
        "raw_bytes": manifest.raw_bytes,
        "stored_bytes": manifest.stored_bytes,
        "seconds": round(manifest.seconds, 3),
        "rows": manifest.rows,
        "tables": len(manifest.tables),
        "state": entry.state,
        "store": entry.store,
        "verified": entry.verified,
        "unlike": entry.unlike,
        "anomalies": manifest.anomalies,
        "on_hold": entry.on_hold,
        "rto_seconds": entry.report.restore_seconds if entry.report and entry.report.ok else None,
    }


def _show(wiring: Wiring, catalogue: Catalogue, shown: dict[str, list[Entry]]) -> None:
    if not catalogue.databases:
        cli.echo(f"there is no backup in {wiring.store.url}", err=True)
    console = cli.stdout_console()
    for number, (name, entries) in enumerate(shown.items()):
        if number:
            cli.echo("")
        history = catalogue.history(name)
        cli.echo(_summary(wiring, history, len(entries)))
        _print_table(console, catalogue.read, entries)
        for broken in history.broken:
            _print_broken(broken, name)


def _print_broken(broken: Broken, database: str) -> None:
    cli.echo(f"{broken.id}  {database}: {broken.error.message}", err=True)


def _summary(wiring: Wiring, history: History, shown: int) -> str:
    """Totals of all backups of a database, whether or not they are shown."""
    everything = (*history.backups, *history.others)
    parts = [
        counted(len(everything), "backup"),
        f"{sum(entry.verified for entry in everything)} verified",
        f"{size(sum(entry.manifest.stored_bytes for entry in everything))} stored",
    ]
    if shown != len(everything):
        parts.append(f"{shown} shown")
    known = {target.name for target in wiring.everything}
    here = "" if not known or history.database in known else " (not configured here)"
    return f"{history.database}{here}: {', '.join(parts)}"


def _print_table(console: Console, now: datetime, entries: Sequence[Entry]) -> None:
    """Print one line for each; rich's tables take as much time as reading the store."""
    cells = [("id", "age", "stored", "rows", Text("state"))]
    cells += [
        (
            entry.id,
            duration((now - entry.manifest.taken).total_seconds()),
            size(entry.manifest.stored_bytes),
            f"{entry.manifest.rows:,}",
            _coloured(entry),
        )
        for entry in entries
    ]
    if len(cells) == 1:
        return
    widths = [max(len(row[column]) for row in cells) for column in range(4)]
    differing = {entry.id: entry.manifest.anomalies for entry in entries}
    for backup_id, *figures, label in cells:
        shown = "  ".join(f"{cell:>{width}}" for cell, width in zip(figures, widths[1:], strict=True))
        console.print(Text.assemble(f"{backup_id:<{widths[0]}}  {shown}  ", label), soft_wrap=True)
        for anomaly in differing.get(backup_id, ()):
            console.print(Text(f"  unlike: {cli.printable(anomaly)}", "yellow"), soft_wrap=True)


def _coloured(entry: Entry) -> Text:
    style = "yellow" if entry.unlike and entry.verified else _STYLES.get(entry.state, "bold red")
    return Text(entry.label, style)
