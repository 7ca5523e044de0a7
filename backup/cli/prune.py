"""``python -m backup prune``."""

import click
from rich.table import Table

from backup.cli.common import database_option, json_option, load
from backup.prune import Pruned, identifier_of, plan_for
from backup.prune import prune as prune_backups
from backup.replication.merged import read
from sidecar import UsageError, cli


@click.command()
@click.option(
    "--dry-run", is_flag=True, help="Show every decision and its reasons without deleting anything."
)
@click.option(
    "--yes-i-mean",
    metavar="NAME",
    help="Delete even an unusually large number at once; NAME is the database's.",
)
@database_option
@json_option
def prune(dry_run: bool, yes_i_mean: str | None, database: str | None, as_json: bool) -> None:
    """Delete backups that no retention rule keeps.

    Nothing is deleted while the newest backup is overdue, failed, anomalous,
    or unverified for too long, if unusually many backups have appeared, or if
    half or more of the older ones would be deleted at once.

    \b
    Examples:
      python -m backup prune --dry-run
      python -m backup prune --yes-i-mean posthub
    """
    wiring = load()
    if yes_i_mean is not None:
        database = wiring.target(yes_i_mean if database is None else database).name
        if yes_i_mean != database:
            raise UsageError(f"{yes_i_mean!r} is not {database}", hint=f"--yes-i-mean {database}")
    agreed = yes_i_mean is not None
    results = {}
    for target in (wiring.target(database),) if database else wiring.everything:
        if dry_run:
            history = read(wiring, [target.name]).history(target.name)
            identifier = identifier_of(target, history)
            results[target.name] = Pruned(plan_for(wiring, history, identifier=identifier, agreed=agreed))
        else:
            results[target.name] = prune_backups(wiring, target, agreed=agreed)
    if as_json:
        cli.print_json({name: _facts(pruned) for name, pruned in results.items()})
    else:
        for name, pruned in results.items():
            _show(name, pruned, dry_run=dry_run)


def _facts(pruned: Pruned) -> dict[str, object]:
    decisions = [
        {"id": each.id, "keep": each.keep, "reasons": each.reasons, "tiers": each.tiers}
        for each in pruned.plan.decisions
    ]
    refused = [{"key": each.key, "reason": each.reason} for each in pruned.refused]
    return {
        "blocked": pruned.plan.blocked,
        "decisions": decisions,
        "deleted": pruned.deleted,
        "refused": refused,
    }


def _show(name: str, pruned: Pruned, *, dry_run: bool) -> None:
    console = cli.stdout_console()
    table = Table(title=name, title_justify="left", box=None)
    for heading in ("backup", "decision", "why"):
        table.add_column(heading, no_wrap=heading != "why")
    for each in pruned.plan.decisions:
        verb = "keep" if each.keep else "would delete" if dry_run else "delete"
        cli.row(table, each.id, verb, "; ".join(each.reasons))
    console.print(table)
    for reason in pruned.plan.blocked:
        cli.echo(f"pruning is blocked: {reason}")
    for refusal in pruned.refused:
        cli.echo(f"the store refused to delete {refusal.key}: {refusal.reason}")
