"""``python -m backup databases``."""

from typing import Any

import click
from rich.table import Table

from backup.cli.common import confirm, database_option, json_option, load, postgres_target
from backup.postgres.databases import databases
from backup.restore import kept
from backup.restore.kept import Kept
from sidecar import cli
from sidecar.humanize import moment, size


@click.command("databases")
@click.option("--drop", "name", metavar="NAME", help="Drop this database, which a restore or promotion left.")
@click.option("--yes-i-mean", metavar="NAME", help="The same name, to confirm without a prompt.")
@click.option("--dry-run", is_flag=True, help="With --drop: show what would be dropped without doing it.")
@database_option
@json_option
def list_databases(
    name: str | None, yes_i_mean: str | None, dry_run: bool, database: str | None, as_json: bool
) -> None:
    """List production's database and what restores, promotions and rollbacks left next to it, with sizes.

    \b
    Examples:
      python -m backup databases
      python -m backup databases --drop posthub_before_20261123t051500z
    """
    wiring = load()
    production = wiring.production(postgres_target(wiring, database))
    with databases(production) as server:
        chosen = kept.choose(server, name) if name else None
        way_back = bool(name) and kept.is_way_back(server, name or "")
        found = kept.read(server)
    if chosen is not None:
        _say(chosen, way_back=way_back)
        if dry_run:
            return
        confirm(f"{chosen.name} will be permanently deleted.", chosen.name, yes_i_mean, "nothing was dropped")
        kept.drop(production, chosen.name)
        found = [each for each in found if each.name != chosen.name]
    if as_json:
        cli.print_json([_facts(each) for each in found])
    elif chosen is not None:
        cli.echo(f"{chosen.name} was dropped; this freed {size(chosen.size)}")
    else:
        _show(found)


def _say(chosen: Kept, *, way_back: bool) -> None:
    cli.echo(f"to be dropped: {chosen.name} ({_what(chosen)}), {size(chosen.size)}", err=True)
    if chosen.connected:
        cli.echo(f"connections that will be closed: {', '.join(chosen.connected)}", err=True)
    if way_back:
        cli.echo("WARNING: without it the last promotion can no longer be rolled back", err=True)


def _what(each: Kept) -> str:
    """A description of a database, and since when it applies."""
    mark = each.mark
    if each.state == "unfinished":
        return "an unfinished restore; the next restore removes it"
    if mark is None:
        return "production"
    since = moment(mark.moment)
    words = {
        "restored": f"restored from {mark.backup} at {since}",
        "promoted": f"production, promoted at {since} from {mark.backup}",
        "before": f"in production until {since}",
        "returned": f"production, rolled back at {since}",
        "undone": f"promoted, and rolled back at {since}",
    }
    return words[mark.state]


def _facts(each: Kept) -> dict[str, Any]:
    return {
        "name": each.name,
        "state": each.state,
        "size_bytes": each.size,
        "backup": each.mark.backup or None if each.mark else None,
        "moment": each.mark.moment if each.mark else None,
        "connected": each.connected,
    }


def _show(found: list[Kept]) -> None:
    table = Table(box=None, pad_edge=False)
    table.add_column("database", overflow="fold")
    table.add_column("size", justify="right", no_wrap=True)
    table.add_column("what it is", overflow="fold")
    for each in found:
        cli.row(table, each.name, size(each.size), _what(each))
    cli.stdout_console().print(table)
    spare = [each for each in found if each.droppable]
    if spare:
        total = size(sum(each.size for each in spare))
        cli.echo(f"{len(spare)} can be dropped, {total} in all: python -m backup databases --drop NAME")
