"""``python -m backup list``."""

from typing import Any

import click
from rich.table import Table

from backup.catalogue.reader import Catalogue, Entry
from backup.cli.common import database_option, json_option, load
from backup.replication.merged import read
from sidecar import cli
from sidecar.humanize import duration, moment, size

# An ID is copied into the next command, so it is never cut off, however narrow the terminal.
ID_WIDTH = 23


@click.command("list")
@database_option
@json_option
def list_backups(database: str | None, as_json: bool) -> None:
    """List the backups in the store, newest first.

    \b
    Example:
      python -m backup list --database posthub
    """
    wiring = load(only_looks=True)
    catalogue = read(wiring, [database] if database else None)
    if as_json:
        cli.print_json([_facts(entry) for entry in _entries(catalogue)])
    else:
        _show(catalogue)


def _entries(catalogue: Catalogue) -> list[Entry]:
    histories = catalogue.databases.values()
    found = [entry for history in histories for entry in (*history.backups, *history.others)]
    return sorted(found, key=lambda entry: entry.id, reverse=True)


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
        "rto_seconds": entry.report.restore_seconds if entry.report and entry.report.ok else None,
    }


def _show(catalogue: Catalogue) -> None:
    table = Table(box=None)
    table.add_column("id", no_wrap=True, min_width=ID_WIDTH)
    for heading in ("database", "taken", "age", "size", "rows", "state"):
        table.add_column(heading, no_wrap=True)
    for entry in _entries(catalogue):
        manifest = entry.manifest
        age = (catalogue.read - manifest.taken).total_seconds()
        cli.row(table,
            entry.id, manifest.database, moment(manifest.taken), duration(age), size(manifest.stored_bytes),
            f"{manifest.rows:,}", entry.label,
        )  # fmt: skip
    cli.stdout_console().print(table)
    for history in catalogue.databases.values():
        for broken in history.broken:
            cli.echo(f"{broken.id}  {history.database}: {broken.error.message}", err=True)
