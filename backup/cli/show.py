"""``python -m backup show``."""

import click
from rich.table import Table

from backup.catalogue.history import Entry
from backup.cli.common import database_option, find, json_option, load
from sidecar import cli
from sidecar.humanize import duration, moment, size


@click.command()
@click.argument("backup_id", metavar="[ID|latest]", default="latest")
@database_option
@json_option
def show(backup_id: str, database: str | None, as_json: bool) -> None:
    """Show the details of a backup: manifest and verifications.

    \b
    Example:
      python -m backup show latest
    """
    entry = find(load(store_only=True), database, backup_id)
    if as_json:
        manifest = entry.manifest.model_dump(mode="json", by_alias=True)
        reports = [report.model_dump(mode="json") for report in entry.reports]
        cli.print_json(
            {
                "state": entry.state,
                "unlike": entry.unlike,
                "store": entry.store,
                "on_hold": entry.on_hold,
                "hold": entry.hold.model_dump(mode="json") if entry.hold else None,
                "manifest": manifest,
                "reports": reports,
            }
        )
    else:
        _show(entry)


def _show(entry: Entry) -> None:
    manifest = entry.manifest
    cli.echo(f"{entry.id}  {manifest.database} ({manifest.kind}): {entry.label}, in the {entry.store} store")
    cli.echo(f"taken      {moment(manifest.taken)} from {manifest.kind} {manifest.server.version}")
    stages = ", ".join(f"{name} {duration(seconds)}" for name, seconds in manifest.stages.items())
    cli.echo(f"dumped     in {duration(manifest.seconds)} ({stages}) by {manifest.tool}, {manifest.client}")
    cli.echo(f"encrypted  {', '.join(manifest.recipients) if manifest.encrypted else 'NOT encrypted'}")
    for stored in manifest.objects:
        cli.echo(
            f"object     {stored.name}  {size(stored.raw_bytes)} → {size(stored.stored_bytes)}  {stored.sha256}"
        )
    if entry.on_hold:
        cli.echo(f"on hold    {_why(entry)}")
    for anomaly in manifest.anomalies:
        cli.echo(f"unlike     {anomaly}")
    for note in manifest.notes:
        cli.echo(f"left out   {note}")
    for report in entry.reports:
        verdict = f"passed, restored in {duration(report.restore_seconds)}" if report.ok else "FAILED"
        if report.unprovable:
            verdict = f"could not be verified here: {'; '.join(report.unprovable)}"
        cli.echo(f"verified   {moment(report.finished)}: {verdict}")
        for difference in report.differences:
            cli.echo(f"           ✖ {difference}")
    _show_rows(entry)


def _why(entry: Entry) -> str:
    hold = entry.hold
    if hold is None:
        return "hold.json cannot be trusted, so the backup is kept; release it"
    return f"since {moment(hold.moment)}, from {hold.host}{f': {hold.reason}' if hold.reason else ''}"


def _show_rows(entry: Entry) -> None:
    table = Table("table", "rows", box=None)
    for each in sorted(entry.manifest.tables, key=lambda known: -known.rows):
        cli.row(table, each.label, f"{each.rows:,}")
    for space in entry.manifest.keyspaces:
        cli.row(table, f"db{space.number}", f"{space.keys:,}")
    cli.stdout_console().print(table)
