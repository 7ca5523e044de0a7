"""``python -m backup verify``."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click
from rich.table import Table

from backup.cancellation import StoppedError
from backup.catalogue.history import Entry
from backup.catalogue.manifest import content
from backup.catalogue.records import Report
from backup.cli import bars
from backup.cli.common import database_option, find, json_option, load, note_anomalies
from backup.progress import Progress
from backup.replication.merged import read
from backup.verify import verify as verify_backup
from backup.verify.verifier import expected_bytes
from backup.wiring import Wiring
from sidecar import OpsError, UsageError, cli
from sidecar.humanize import counted, duration


@click.command()
@click.argument("backup_id", metavar="[ID|latest]", required=False)
@click.option("--all-unverified", is_flag=True, help="Verify every unverified backup, oldest first.")
@database_option
@json_option
@click.pass_context
def verify(
    ctx: click.Context, backup_id: str | None, all_unverified: bool, database: str | None, as_json: bool
) -> None:
    """Restore a backup into a throwaway server and compare it with what was dumped.

    Exit code 1 if anything differs or cannot be verified.

    \b
    Examples:
      python -m backup verify latest
      python -m backup verify --all-unverified
    """
    if all_unverified and backup_id:
        raise UsageError("an ID and --all-unverified cannot be combined", hint="give one of the two")
    wiring = load()
    if not all_unverified:
        report = _verified(wiring, find(wiring, database, backup_id or "latest"), quiet=as_json)
        if as_json:
            cli.print_json(facts_of(report))
        ctx.exit(0 if report.ok else 1)
    entries = _unverified(wiring, database)
    with wiring.round.open():
        tried = [_tried(wiring, entry, quiet=as_json) for entry in entries]
    if as_json:
        cli.print_json([facts for facts, _ in tried])
    elif not tried:
        cli.echo("every backup is already verified")
    ctx.exit(0 if all(ok for _, ok in tried) else 1)


def _unverified(wiring: Wiring, database: str | None) -> list[Entry]:
    targets = [wiring.target(database)] if database else wiring.everything
    catalogue = read(wiring, [target.name for target in targets])
    found = [
        entry
        for history in catalogue.databases.values()
        for entry in history.backups
        if entry.report is None or entry.unprovable
    ]
    return sorted(found, key=lambda entry: entry.order)


def _tried(wiring: Wiring, entry: Entry, *, quiet: bool) -> tuple[dict[str, Any], bool]:
    """Verify one of many. A failure does not stop the others."""
    try:
        report = _verified(wiring, entry, quiet=quiet)
    except StoppedError:
        raise
    except OpsError as error:
        cli.echo(f"{entry.id}: not verified: {error.message}; try: {error.hint}", err=True)
        return {
            "ok": None,
            "id": entry.id,
            "database": entry.manifest.database,
            "error": error.message,
        }, False
    return facts_of(report), report.ok


def _verified(wiring: Wiring, entry: Entry, *, quiet: bool) -> Report:
    with _progress(entry) as progress:
        report = verify_backup(wiring, entry, progress)
    if not quiet:
        _show(report, entry.manifest.kind)
    note_anomalies(entry)
    return report


def facts_of(report: Report) -> dict[str, Any]:
    """The facts of a report, for --json."""
    return {
        "ok": report.ok,
        "id": report.backup,
        "database": report.database,
        "tables": report.tables,
        "rows": report.rows,
        "differences": [difference.model_dump() for difference in report.differences],
        "notes": report.notes,
        "unprovable": report.unprovable,
        "restore_seconds": round(report.restore_seconds, 3),
        "verify_seconds": round(report.verify_seconds, 3),
        "stages": report.stages,
        "server": report.server,
    }


def _show(report: Report, kind: str) -> None:
    verdict = "verified" if report.ok else f"FAILED, {counted(len(report.differences), 'difference')}"
    if report.unprovable:
        verdict = "could not be verified here"
    cli.echo(
        f"{report.backup}  {report.database}: {verdict}; {content(kind, report.tables, report.rows)}, "
        f"restored in {duration(report.restore_seconds)}, whole verification {duration(report.verify_seconds)}"
    )
    if report.differences:
        table = Table("kind", "object", "expected", "found", box=None)
        for each in report.differences:
            cli.row(table, each.kind, each.object, each.expected, each.found)
        cli.stdout_console().print(table)
    for reason in report.unprovable:
        cli.echo(f"  why: {reason}")
    for note in report.notes:
        cli.echo(f"  note: {note}")


@contextmanager
def _progress(entry: Entry) -> Iterator[Progress]:
    with cli.progress(*bars.transfer(with_speed=True)) as display:
        task = display.add_task(entry.manifest.database, total=expected_bytes(entry.manifest))
        yield lambda count: display.advance(task, count)
