"""``python -m backup rollback``."""

from typing import Any

import click

from backup.cli.common import (
    confirm,
    confirm_name,
    database_option,
    json_option,
    load,
    postgres_target,
    print_step,
)
from backup.postgres.databases import databases
from backup.progress import Reporter
from backup.restore.swap import Swap, plan_rollback
from backup.restore.swap import rollback as roll_back
from sidecar import cli
from sidecar.humanize import moment


@click.command()
@click.option("--yes-i-mean", metavar="NAME", help="Name of the live database, to confirm without a prompt.")
@click.option("--dry-run", is_flag=True, help="Show what would be done without doing it.")
@database_option
@json_option
def rollback(yes_i_mean: str | None, dry_run: bool, database: str | None, as_json: bool) -> None:
    """Swap the database that the last promotion replaced back into production.

    The promoted database is kept as NAME_undone_TIMESTAMP, with everything that was written to it since. It can be
    promoted again.

    \b
    Example:
      python -m backup rollback --yes-i-mean posthub
    """
    wiring = load()
    production = wiring.production(postgres_target(wiring, database))
    with databases(production) as server:
        swap = plan_rollback(server, wiring.clock())
    if dry_run and as_json:
        cli.print_json(_facts(swap) | {"returned_at": swap.mark.moment if swap.done else None})
        return
    if swap.done:
        confirm_name(swap.production, yes_i_mean)
    else:
        click.echo(cli.printable(_intention(swap), lines=True), err=True)
        if dry_run:
            return
        confirm(f"{swap.production} will be replaced.", swap.production, yes_i_mean)
        swap = roll_back(production, wiring.clock(), Reporter(print_step))
    _show(swap, as_json=as_json)


def _intention(swap: Swap) -> str:
    lines = [
        "one transaction:",
        f"  1. {swap.production} → {swap.kept}, with everything written since {moment(swap.mark.moment)}",
        f"  2. {swap.incoming} → {swap.production}, as it was at that moment",
    ]
    return "\n".join(lines)


def _facts(swap: Swap) -> dict[str, Any]:
    return {
        "production": swap.production,
        "from": swap.incoming,
        "kept": swap.kept,
        "found": swap.done,
    }


def _show(swap: Swap, *, as_json: bool) -> None:
    if as_json:
        cli.print_json(_facts(swap))
        return
    if swap.done:
        cli.echo(
            f"{swap.production} was already rolled back; nothing was changed; the promoted database is {swap.kept}"
        )
    else:
        cli.echo(
            f"{swap.incoming} is in production again as {swap.production}; the promoted database is {swap.kept}"
        )
