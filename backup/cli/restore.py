"""``python -m backup restore``."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from backup.catalogue.history import Entry, projected
from backup.catalogue.records import Difference
from backup.cli import bars
from backup.cli.common import (
    agreed,
    as_moment,
    check_origin,
    database_option,
    find,
    json_option,
    load,
    note_anomalies,
    postgres_target,
    print_step,
)
from backup.cli.point import When, restore_at
from backup.errors import PromotedError
from backup.postgres.databases import databases
from backup.postgres.dsn import Address
from backup.progress import Meter, Reporter
from backup.replication.merged import read
from backup.restore import database as new_database
from backup.restore import names, tables
from backup.restore.database import Restored
from backup.verify.verifier import expected_bytes
from backup.wiring import Wiring
from sidecar import UsageError, cli
from sidecar.humanize import counted, duration, moment, size


@click.command()
@click.argument("backup_id", metavar="[ID|latest]", default="latest")
@click.option(
    "--into", metavar="NEWDB", help="Name of the new database; default: NAME_restored_TIME-OF-BACKUP."
)
@click.option(
    "--table",
    "wanted",
    multiple=True,
    metavar="TABLE",
    help="Restore only this table, into a separate schema of the live database; repeatable.",
)
@click.option(
    "--schema", metavar="NAME", help="With --table: name of that schema; default: restored_TIME-OF-BACKUP."
)
@click.option(
    "--to",
    type=click.Path(path_type=Path, dir_okay=False),
    help="For a Redis backup: write the RDB to this file.",
)
@click.option(
    "--before",
    metavar="TIME",
    callback=as_moment,
    help="Instead of an ID: the latest verified backup whose data is not newer than TIME (in UTC; 2h is two hours ago).",
)
@click.option(
    "--at",
    metavar="TIME|latest",
    help="As of a point in time, with its zone (2026-11-28 14:03:00+01); the argument is then the SERVER.",
)
@click.option("--at-mark", metavar="NAME", help="As of a mark that `python -m backup mark` has set.")
@click.option(
    "--at-lsn", metavar="LSN", help="As of a position in the WAL; the record that starts there is left out."
)
@click.option(
    "--timeline",
    type=click.IntRange(1, 2**32 - 1),
    metavar="N",
    help="With --at…: the timeline to follow; default: the newest.",
)
@click.option(
    "--to-folder",
    type=click.Path(path_type=Path, file_okay=False, resolve_path=True),
    help="With --at…: recover the whole server into this new folder.",
)
@click.option("--again", is_flag=True, help="Restore again, even if it was restored or promoted before.")
@click.option(
    "--unsigned", is_flag=True, help="Restore it even if none of our keys has signed it; needs its ID."
)
@click.option(
    "--continue",
    "proceed",
    is_flag=True,
    help="Succeed if it is already in production; for scripts that were interrupted.",
)
@click.option(
    "--yes-i-mean",
    metavar="NAME",
    help="The live database's name: restore data from another server without asking.",
)
@click.option("--dry-run", is_flag=True, help="Show every step without doing it.")
@database_option
@json_option
@click.pass_context
def restore(
    ctx: click.Context,
    backup_id: str,
    into: str | None,
    wanted: tuple[str, ...],
    schema: str | None,
    to: Path | None,
    before: datetime | None,
    at: str | None,
    at_mark: str | None,
    at_lsn: str | None,
    timeline: int | None,
    to_folder: Path | None,
    again: bool,
    proceed: bool,
    unsigned: bool,
    yes_i_mean: str | None,
    dry_run: bool,
    database: str | None,
    as_json: bool,
) -> None:
    """Restore a backup into a new database next to production's and verify it there.

    Production is not touched; `python -m backup promote` swaps the new database in. Safe to re-run after an interruption:
    a database that was already verified is reused, and an unfinished one is rebuilt. A backup that is already in
    production is restored once more only with --again.

    \b
    Examples:
      python -m backup restore latest
      python -m backup restore ab12cd --into posthub_yesterday
      python -m backup restore --before 2026-11-28T14:00
      python -m backup restore latest --table posts_post --table posts_channel
      python -m backup restore main --at "2026-11-28 14:03:00+01" -d posthub
      python -m backup restore main --at latest --to-folder /mnt/new/pgdata
    """
    when = When(at, at_mark, at_lsn, timeline, to_folder)
    if when:
        others = (wanted, schema, to, before, unsigned, proceed)
        name = None if backup_id == "latest" else backup_id
        when.check_combined(others, into, database)
        ctx.exit(
            restore_at(
                load(),
                name,
                when,
                database,
                into,
                again=again,
                yes_i_mean=yes_i_mean,
                dry_run=dry_run,
                as_json=as_json,
            )
        )
    _check_combined(backup_id, bool(wanted), to, into, schema, before, unsigned=unsigned)
    wiring = load()
    if to is None and backup_id == "latest":
        database = postgres_target(wiring, database).name
    entry = find(wiring, database, backup_id, verified=True, unsigned=unsigned, before=before)
    if backup_id == "latest":
        _expect_usual(wiring, entry, before)
    elif to is not None or wanted:
        # A whole database is noted in its own result.
        note_anomalies(entry)
    if to is not None:
        status = _rdb(wiring, entry, to, dry_run=dry_run, as_json=as_json)
    elif wanted:
        status = _tables(wiring, entry, wanted, into, schema, yes_i_mean, dry_run=dry_run, as_json=as_json)
    else:
        asked = Asked(again=again, proceed=proceed, yes_i_mean=yes_i_mean)
        status = _database(wiring, entry, into, asked, dry_run=dry_run, as_json=as_json)
    ctx.exit(status)


def _check_combined(
    backup_id: str,
    tables: bool,
    to: Path | None,
    into: str | None,
    schema: str | None,
    before: datetime | None,
    *,
    unsigned: bool,
) -> None:
    """Check that the options can be combined."""
    if (tables and to) or (schema and not tables) or (into and to):
        raise UsageError("these options cannot be combined", hint="--into, or --table with --schema, or --to")
    if before is not None and backup_id != "latest":
        raise UsageError("an ID and --before cannot be combined", hint="give one of the two")
    if unsigned and backup_id == "latest":
        raise UsageError("--unsigned needs the ID of a backup", hint="list them: python -m backup list")


@dataclass(frozen=True)
class Asked:
    """How to treat a backup that was restored before; see :func:`backup.restore.database.restore`."""

    again: bool = False
    proceed: bool = False
    yes_i_mean: str | None = None


def _expect_usual(wiring: Wiring, entry: Entry, before: datetime | None) -> None:
    """Ask before restoring an anomalous backup: the newest one may already lack the lost data."""
    if not entry.unlike:
        return
    note_anomalies(entry)
    if agreed(f"Restore {entry.id} anyway?"):
        return
    history = read(wiring, [entry.manifest.database]).history(entry.manifest.database)
    history = history.until(before) if before else history
    usual = [each for each in reversed(history.backups) if not each.unlike]
    verified = next((each for each in usual if each.verified), None)
    if verified is not None:
        other = f"; the newest verified one without this warning: {verified.id}"
    elif usual:
        other = f"; the newest one without this warning: {usual[0].id}, which is not verified"
    else:
        other = ""
    raise UsageError(
        f"the newest backup {entry.id} is unlike the backups before it; nothing was restored",
        hint=f"say which one you mean: {entry.id}{other}",
    )


def _database(
    wiring: Wiring, entry: Entry, into: str | None, asked: Asked, *, dry_run: bool, as_json: bool
) -> int:
    production = wiring.production(postgres_target(wiring, entry.manifest.database))
    name = into or names.restored(production.database, entry.id)
    check_origin(wiring, entry, production, asked.yes_i_mean)
    expected = _expected(wiring, entry)
    if dry_run:
        _plan(entry, production, name, asked, expected, as_json=as_json)
        return 0
    with _display(entry, expected_bytes(entry.manifest), expected) as reporter:
        restored = _restored(wiring, entry, production, name, asked, reporter)
    if as_json:
        cli.print_json(_facts(restored))
    else:
        _show(restored)
    return 0 if restored.ok else 1


def _restored(
    wiring: Wiring, entry: Entry, production: Address, name: str, asked: Asked, reporter: Reporter
) -> Restored:
    try:
        return new_database.restore(
            wiring, entry, production, name, reporter, again=asked.again, proceed=asked.proceed
        )
    except PromotedError as error:
        if not agreed(f"{error.message}. Restore it once more?"):
            raise
    return new_database.restore(wiring, entry, production, name, reporter, again=True)


def _plan(
    entry: Entry, production: Address, name: str, asked: Asked, expected: float, *, as_json: bool
) -> None:
    with databases(production) as server:
        found = new_database.check(
            server, entry, production.database, name, again=asked.again, proceed=asked.proceed
        )
        needed = new_database.needed(server, entry, production.database) if found is None else 0
    if as_json:
        cli.print_json(
            {
                "id": entry.id,
                "into": name,
                "production": production.database,
                "found": found is not None,
                "promoted_at": found.moment if found and found.promoted else None,
                "anomalies": entry.manifest.anomalies,
                "server_bytes": needed,
            }
        )
        return
    there = "it is in production" if found and found.promoted else "it already exists"
    _say(
        f"{_intended(entry, name, expected)}; about {size(needed)} on the server's disk",
        new_database.STEPS if found is None else (f"nothing: {there}",),
    )
    note_anomalies(entry)


def _tables(
    wiring: Wiring,
    entry: Entry,
    wanted: tuple[str, ...],
    into: str | None,
    schema: str | None,
    yes_i_mean: str | None,
    *,
    dry_run: bool,
    as_json: bool,
) -> int:
    live = wiring.production(postgres_target(wiring, entry.manifest.database))
    side = tables.Side(live.named(into) if into else live, schema or names.restored("", entry.id).lstrip("_"))
    tables.chosen(entry.manifest, wanted)
    labels = ", ".join(wanted)
    if dry_run:
        tables.check(side)
        _say(f"{labels} of {entry.id} into schema {side.schema} of {side.database.database}", tables.STEPS)
        return 0
    check_origin(wiring, entry, live, yes_i_mean)
    with _display(entry, entry.manifest.stored_bytes) as reporter:
        restored = tables.restore_tables(wiring, entry, wanted, side, reporter)
    if as_json:
        found = [difference.model_dump() for difference in restored.differences]
        cli.print_json(
            {
                "ok": not restored.differences,
                "id": entry.id,
                "schema": side.schema,
                "tables": [table.label for table in restored.tables],
                "rows": restored.rows,
                "copy": dict(restored.copy),
                "differences": found,
            }
        )
    else:
        cli.echo(
            f"{labels}: {counted(len(restored.tables), 'table')}, {counted(restored.rows, 'row')} in schema {side.schema} of"
            f" {side.database.database}"
        )
        _show_differences(restored.differences)
        for statement in restored.copy.values():
            cli.echo(f"to copy back the rows that are missing: {statement}")
    return 1 if restored.differences else 0


def _rdb(wiring: Wiring, entry: Entry, to: Path, *, dry_run: bool, as_json: bool) -> int:
    from backup.restore.rdb import write_rdb  # its client library is slow to load

    if dry_run:
        _say(
            f"{entry.id} into {to}",
            ("download, check and decompress the backup", "check the file with redis-check-rdb"),
        )
        return 0
    with _display(entry, entry.manifest.stored_bytes) as reporter:
        write_rdb(wiring, entry, to, reporter)
    if as_json:
        cli.print_json({"ok": True, "id": entry.id, "file": str(to), "keys": entry.manifest.rows})
    else:
        cli.echo(f"{entry.id}: {entry.manifest.rows:,} keys in {to}")
    return 0


def _expected(wiring: Wiring, entry: Entry) -> float:
    """Expected duration in seconds, if known."""
    if own := [report for report in entry.reports if report.ok]:
        return own[-1].restore_seconds
    history = read(wiring, [entry.manifest.database]).history(entry.manifest.database)
    return projected(history, [report for report in history.reports if report.ok], entry)


def _intended(entry: Entry, name: str, expected: float) -> str:
    manifest = entry.manifest
    time = (
        f"about {duration(expected)} as last measured" if expected else "its duration has never been measured"
    )
    return (
        f"{entry.id} ({entry.label}, data of {moment(manifest.taken)}, {size(manifest.raw_bytes)}) into the new"
        f" database {name}; {time}, and its proof takes as long again"
    )


def _say(what: str, steps: tuple[str, ...]) -> None:
    cli.echo(f"would restore {what}")
    for number, step in enumerate(steps, 1):
        cli.echo(f"  {number}. {step}")


def _facts(restored: Restored) -> dict[str, Any]:
    return {
        "ok": restored.ok,
        "id": restored.manifest.id,
        "into": restored.into,
        "found": restored.found,
        "promoted": restored.promoted,
        "taken": restored.manifest.taken,
        "rows": restored.manifest.rows,
        "tables": len(restored.manifest.tables),
        "seconds": round(restored.seconds, 3),
        "stages": restored.stages,
        "differences": [difference.model_dump() for difference in restored.differences],
        "anomalies": restored.manifest.anomalies,
        "notes": restored.notes,
    }


def _show(restored: Restored) -> None:
    manifest = restored.manifest
    if restored.found:
        where = "was already promoted" if restored.promoted else "exists and is verified"
        cli.echo(f"{manifest.id}: {restored.into} {where}; nothing was changed. To restore again: --again")
    else:
        verdict = (
            "restored and verified"
            if restored.ok
            else f"NOT VERIFIED, {len(restored.differences)} differences"
        )
        cli.echo(
            f"{restored.into}: {verdict}; {counted(len(manifest.tables), 'table')}, {counted(manifest.rows, 'row')}, data of"
            f" {moment(manifest.taken)}, in {duration(restored.seconds)}"
        )
    _show_differences(restored.differences)
    for anomaly in manifest.anomalies:
        cli.echo(f"  note: unlike the backups before it: {anomaly}")
    for note in restored.notes:
        cli.echo(f"  note: {note}")
    if restored.ok and not restored.promoted:
        cli.echo(f"next: python -m backup promote {restored.into}")


def _show_differences(differences: tuple[Difference, ...] | list[Difference]) -> None:
    for difference in differences:
        cli.echo(f"  ✖ {difference}")


@contextmanager
def _display(entry: Entry, total: int, expected: float = 0.0) -> Iterator[Reporter]:
    """Report steps as lines, and the bytes each minute in the log; on a terminal, report bytes and tables as bars with the
    time left.

    Args:
        total: number of bytes at the end.
        expected: seconds to a restored database, as last measured.
    """
    with cli.progress(*bars.transfer()) as display:
        task = display.add_task("download", total=total)
        started: list[str] = []

        def table(name: str) -> None:
            started.append(name)
            display.update(
                task, description=cli.plain(f"table {len(started)} of {len(entry.manifest.tables)}: {name}")
            )

        if expected:
            print_step(f"about {duration(expected)} to a restored database, as last measured")
        meter = Meter(
            entry.manifest.database,
            lambda count: display.advance(task, count),
            work="restore",
            expected=total,
        )
        with meter.reporting():
            yield Reporter(print_step, meter.add, table)
