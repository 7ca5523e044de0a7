"""``python -m backup mark``."""

import click

from backup.cli.common import json_option, load
from backup.physical import lsn, marks, targets
from sidecar import cli
from sidecar.humanize import moment


@click.command()
@click.argument("name")
@click.option("--database", "-d", "server", metavar="NAME", help="The server, if several are configured.")
@json_option
def mark(name: str, server: str | None, as_json: bool) -> None:
    """Set a mark in the WAL of a server, to recover to it later: before a migration, for example.

    Each name can be used once.

    \b
    Examples:
      python -m backup mark "before migration 0042"
      python -m backup restore main --at-mark "before migration 0042" -d posthub
    """
    wanted = targets.parse_mark(name)
    wiring = load()
    made = marks.make(wiring.store, wiring.server(server), wanted, wiring.keys)
    if as_json:
        cli.print_json(
            {
                "name": made.name,
                "server": made.server,
                "lsn": lsn.text(made.position),
                "timeline": made.timeline,
                "moment": made.moment,
            }
        )
    else:
        cli.echo(f"{made.name}: {moment(made.moment)}, {lsn.text(made.position)} on timeline {made.timeline}")
