"""``python -m backup drill``."""

import click

from backup.cli.common import (
    database_option,
    find,
    json_option,
    load,
    note_anomalies,
    postgres_target,
    print_step,
)
from backup.progress import Reporter
from backup.restore import drill as drilling
from backup.restore.drill import DrillResult
from sidecar import cli
from sidecar.humanize import duration


@click.command()
@click.argument("backup_id", metavar="[ID|latest]", default="latest")
@click.option("--dry-run", is_flag=True, help="Show every step without doing it.")
@database_option
@json_option
@click.pass_context
def drill(ctx: click.Context, backup_id: str, dry_run: bool, database: str | None, as_json: bool) -> None:
    """Practise the whole restore in a throwaway server: restore, proof, promotion and rollback, timed.

    Production's server is not touched. The result is recorded; see `backup_last_drill_timestamp_seconds`.

    \b
    Example:
      python -m backup drill latest
    """
    wiring = load()
    name = postgres_target(wiring, database).name
    entry = find(wiring, name, backup_id)
    note_anomalies(entry)
    if dry_run:
        for number, step in enumerate(drilling.STEPS, 1):
            cli.echo(f"  {number}. {step}")
        return
    result = drilling.drill(wiring, entry, Reporter(print_step))
    if as_json:
        cli.print_json(_facts(result))
    else:
        _show(result)
    ctx.exit(0 if result.ok else 1)


def _facts(result: DrillResult) -> dict[str, object]:
    manifest = result.restored.manifest
    return {
        "ok": result.ok,
        "id": manifest.id,
        "database": manifest.database,
        "rto_seconds": round(result.rto, 3),
        "rpo_seconds": round(result.rpo, 3),
        "rows": manifest.rows,
        "tables": len(manifest.tables),
        "stages": {**result.restored.stages, **result.stages},
        "differences": [difference.model_dump() for difference in result.differences],
        "notes": result.restored.notes,
    }


def _show(result: DrillResult) -> None:
    manifest = result.restored.manifest
    cli.echo(f"{manifest.id}  {manifest.database}: drill {'passed' if result.ok else 'FAILED'}")
    cli.echo(f"RTO {duration(result.rto)}: from the first byte to the verified database in production")
    cli.echo(
        f"RPO {duration(result.rpo)}: the data that would be lost if the server had died when the drill began"
    )
    for stage, seconds in {**result.restored.stages, **result.stages}.items():
        cli.echo(f"  {stage:<10}{duration(seconds):>14}")
    for difference in result.differences:
        cli.echo(f"  ✖ {difference}")
    for note in result.restored.notes:
        cli.echo(f"  note: {note}")
