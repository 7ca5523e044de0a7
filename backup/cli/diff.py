"""``python -m backup diff``."""

from dataclasses import asdict

import click
from rich.table import Table
from rich.text import Text

from backup.catalogue.changes import Changes, compare
from backup.catalogue.history import Entry
from backup.cli.common import database_option, find, json_option, load
from sidecar import UsageError, cli
from sidecar.humanize import counted, moment, size


@click.command()
@click.argument("before", metavar="ID")
@click.argument("after", metavar="[ID|latest]", default="latest")
@database_option
@json_option
def diff(before: str, after: str, database: str | None, as_json: bool) -> None:
    """Compare two backups: rows by table, extensions, roles and sequences, from their manifests.

    Only the manifests are downloaded.

    \b
    Examples:
      python -m backup diff ab12cd
      python -m backup diff ab12cd ef34ab --json
    """
    wiring = load(store_only=True)
    old = find(wiring, database, before)
    # "latest" also refers to the database of the first one.
    new = find(wiring, old.manifest.database if after == "latest" else database, after)
    if old.manifest.kind != new.manifest.kind:
        raise UsageError(
            f"{old.id} is a backup of {old.manifest.kind}, {new.id} is one of {new.manifest.kind}",
            hint="compare two backups of the same kind: python -m backup list",
        )
    changes = compare(old.manifest, new.manifest)
    if as_json:
        cli.print_json({"before": old.id, "after": new.id, **asdict(changes)})
    else:
        _show(old, new, changes)


def _show(old: Entry, new: Entry, changes: Changes) -> None:
    for entry in (old, new):
        manifest = entry.manifest
        cli.echo(
            f"{entry.id}  {manifest.database}: data of {moment(manifest.taken)}, {manifest.rows:,} rows, "
            f"{size(manifest.raw_bytes)}, {entry.label}"
        )
    if changes.counts:
        table = Table(box=None, pad_edge=False)
        table.add_column("rows of", overflow="fold")
        for heading in ("before", "after", "change"):
            table.add_column(heading, justify="right", no_wrap=True)
        for each in changes.counts:
            style = "red" if each.change < 0 or each.after is None else "green"
            change = Text(f"{each.change:+,}", style)
            cli.row(table, each.name, _shown(each.before), _shown(each.after), change)
        cli.stdout_console().print(table)
    for other in changes.others:
        cli.echo(f"{other.kind} {other.name} {'is new' if other.added else 'is gone'}")
    kind = "table" if old.manifest.kind == "postgres" else "Redis database"
    has = "has" if changes.same == 1 else "have"
    cli.echo(f"{counted(changes.same, kind)} {has} the same number of rows in both")


def _shown(count: int | None) -> str:
    return "–" if count is None else f"{count:,}"
