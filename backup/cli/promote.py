"""``python -m backup promote``."""

from collections.abc import Sequence
from datetime import datetime
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
from backup.postgres.dsn import Address
from backup.progress import Reporter
from backup.restore import loss, touched
from backup.restore.swap import Swap, plan_promotion
from backup.restore.swap import promote as promote_database
from sidecar import cli
from sidecar.humanize import duration, moment


@click.command()
@click.argument("restored", metavar="[NEWDB]", required=False)
@click.option("--yes-i-mean", metavar="NAME", help="Name of the live database, to confirm without a prompt.")
@click.option("--dry-run", is_flag=True, help="Show what would be done without doing it.")
@database_option
@json_option
def promote(
    restored: str | None, yes_i_mean: str | None, dry_run: bool, database: str | None, as_json: bool
) -> None:
    """Swap a restored and verified database into production. The old one is kept as NAME_before_TIMESTAMP.

    Both are renamed in one transaction, so production is always either the old or the new database. All connections to
    both are closed. Without NEWDB, the newest restored and verified database is promoted. A database that was replaced
    or rolled back, NAME_before_… or NAME_undone_…, can be promoted again by its name.

    \b
    Example:
      python -m backup promote posthub_restored_20261123t050000z
    """
    wiring = load()
    target = postgres_target(wiring, database)
    production = wiring.production(target)
    with databases(production) as server:
        swap = plan_promotion(server, target.name, restored, wiring.clock())
        there = server.connected(swap.production)
    changed = "" if swap.done else touched.since(production.named(swap.incoming), swap.mark)
    if dry_run and as_json:
        cli.print_json({**_facts(swap), "changed": changed})
        return
    if swap.done:
        confirm_name(swap.production, yes_i_mean)
    else:
        click.echo(cli.printable(_intention(swap, there, changed, wiring.clock()), lines=True), err=True)
        click.echo(cli.printable("\n".join(_loss(production, swap)), lines=True), err=True)
        if dry_run:
            return
        kept = f"nothing was changed; {swap.incoming} is kept: python -m backup promote {swap.incoming}"
        confirm(f"{swap.production} will be replaced.", swap.production, yes_i_mean, kept)
        swap = promote_database(production, target.name, swap.incoming, wiring.clock(), Reporter(print_step))
    _show(swap, as_json=as_json)


def _intention(swap: Swap, there: list[str], changed: str, now: datetime) -> str:
    taken = swap.mark.taken
    holds = (
        f"with the data of {moment(taken)} (backup {swap.mark.backup})"
        if taken
        else f"as it was at {moment(swap.mark.moment)}"
    )
    kept = f"{swap.production} → {swap.kept}" if swap.kept else f"there is no {swap.production} yet"
    lines = [
        "one transaction:",
        f"  1. {kept}",
        f"  2. {swap.incoming} → {swap.production}, {holds}",
        f"connections that will be closed: {', '.join(there) or 'none'}",
        *(f"WARNING: unlike the backups before it: {anomaly}" for anomaly in swap.mark.anomalies),
        *([f"WARNING: {swap.incoming}: {changed}"] if changed else []),
    ]
    if taken and swap.kept:
        age = duration((now - taken).total_seconds())
        lines.append(f"{swap.production} will lose what was written in the {age} since {moment(taken)}")
    return "\n".join(lines)


def _loss(production: Address, swap: Swap) -> Sequence[str]:
    if not swap.kept:
        return ()
    return loss.table(loss.compare(production, production.named(swap.incoming)))


def _facts(swap: Swap) -> dict[str, Any]:
    return {
        "production": swap.production,
        "from": swap.incoming,
        "kept": swap.kept,
        "backup": swap.mark.backup,
        "taken": swap.mark.taken,
        "anomalies": swap.mark.anomalies,
        "found": swap.done,
    }


def _show(swap: Swap, *, as_json: bool) -> None:
    if as_json:
        cli.print_json(_facts(swap))
        return
    state = "is already promoted; nothing was changed" if swap.done else "is in production"
    cli.echo(f"{swap.incoming} {state}; its name is {swap.production}")
    if swap.kept:
        cli.echo(f"the old database is {swap.kept}; to undo: python -m backup rollback")
