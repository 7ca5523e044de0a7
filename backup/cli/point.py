"""``python -m backup restore SERVER --at …``: one database, or the whole server, as it was at a point in time."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from backup.cli import bars
from backup.cli.common import check_origin, postgres_target, print_step
from backup.physical import lsn, marks, targets
from backup.physical.coverage import Candidate, Coverage, coverage_of, expected_seconds
from backup.physical.replica import SPACE_EXTRA, SPACE_FACTOR
from backup.physical.targets import AtMark, Goal
from backup.postgres.databases import databases
from backup.postgres.dsn import Address
from backup.progress import Meter, Reporter
from backup.restore.folder import restore_folder
from backup.restore.point import Point, planned, restore_point
from backup.wiring import Wiring
from sidecar import UsageError, cli
from sidecar.humanize import counted, duration, moment, size


@dataclass(frozen=True)
class When:
    """The request: exactly one of the first three fields, and how to carry it out."""

    at: str | None = None
    at_mark: str | None = None
    at_lsn: str | None = None
    timeline: int | None = None
    to_folder: Path | None = None

    def __bool__(self) -> bool:
        return any(
            each is not None for each in (self.at, self.at_mark, self.at_lsn, self.timeline, self.to_folder)
        )

    def check_combined(self, others: Sequence[object], into: str | None, database: str | None) -> None:
        """Check that no option was given that has no meaning here.

        Raises:
            UsageError: one was given.
        """
        if any(others) or (self.to_folder and (into or database)):
            raise UsageError(
                "these options cannot be combined",
                hint="with --at…: -d, --into, --again and --yes-i-mean, or --to-folder",
            )

    @property
    def goal(self) -> Goal:
        """The target.

        Raises:
            UsageError: it cannot be read, or there are several.
        """
        given = [each for each in (self.at, self.at_mark, self.at_lsn) if each is not None]
        if len(given) > 1:
            raise UsageError("--at, --at-mark and --at-lsn cannot be combined", hint="give one of them")
        if self.at_mark is not None:
            return targets.parse_mark(self.at_mark)
        if self.at_lsn is not None:
            return targets.parse_position(self.at_lsn)
        if self.at is None:
            raise UsageError(
                "--timeline and --to-folder need --at, --at-mark or --at-lsn",
                hint="for the newest state: --at latest",
            )
        return targets.parse_goal(self.at)


def restore_at(
    wiring: Wiring,
    name: str | None,
    when: When,
    database: str | None,
    into: str | None,
    *,
    again: bool,
    yes_i_mean: str | None,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Restore, and print what was done; returns the exit code."""
    goal = when.goal
    server = wiring.server(name)
    known = marks.find(wiring.store, server.name, goal, wiring.keys) if isinstance(goal, AtMark) else None
    coverage = coverage_of(wiring, server.name, when.timeline)
    if known is not None and known.system_identifier != coverage.archive.system:
        raise UsageError(
            f"{goal} is a mark of another cluster, {known.system_identifier}", hint="use --at TIME instead"
        )
    candidate = coverage.choose(goal, known.position if known else None)
    if dry_run and (when.to_folder is not None or not as_json):
        _show_plan(coverage, candidate, goal, when.to_folder)
        return 0
    if when.to_folder is not None:
        return _whole(wiring, coverage, candidate, goal, when.to_folder, as_json=as_json)
    target = postgres_target(wiring, database)
    point = planned(wiring, server, target, goal, candidate, into)
    if dry_run:
        _print_plan(wiring.production(target), candidate, point)
        return 0
    check_origin(wiring, candidate.entry, wiring.production(target), yes_i_mean, target.name)
    return _one(wiring, coverage, candidate, point, again=again, as_json=as_json)


def _show_plan(coverage: Coverage, candidate: Candidate, goal: Goal, to_folder: Path | None) -> None:
    manifest, window = candidate.entry.manifest, candidate.window
    needed = sum(
        each.stored.size
        for span in window.path
        for each in coverage.listing.wal
        if each.timeline == span.timeline and span.start <= each.start < span.end
    )
    cli.echo(f"would recover to {goal}{f' in {to_folder}' if to_folder else ''}")
    cli.echo(f"  base backup  {candidate.entry.id} of {moment(manifest.taken)}, {candidate.entry.label}")
    cli.echo(
        f"  WAL          at most {size(needed)} stored, from {lsn.text(window.path[0].start)} on timeline"
        f" {manifest.physical.timeline if manifest.physical else window.timeline}"
        f" to {lsn.text(window.end)} on timeline {window.timeline}"
    )
    cli.echo(f"  room         {size(manifest.raw_bytes * SPACE_FACTOR + SPACE_EXTRA)}")
    seconds = expected_seconds(coverage.candidates, candidate)
    known = (
        f"at most about {duration(seconds)}, according to the newest proof"
        if seconds is not None
        else "not known: nothing is proven yet"
    )
    cli.echo(
        f"  time         {known}{'' if to_folder else '; then the database is dumped, restored and compared'}"
    )


def _print_plan(production: Address, candidate: Candidate, point: Point) -> None:
    """The plan for scripts, with the names that the plan of a backup has."""
    with databases(production) as server:
        live = server.marks().get(production.database)
        size_now = server.size(production.database) if server.exists(production.database) else 0
    again = live is not None and live.promoted and live.backup == point.backup_id
    cli.print_json(
        {
            "base": candidate.entry.id,
            "goal": str(point.goal),
            "into": point.into,
            "production": production.database,
            "promoted_at": live.moment if live and again else None,
            "server_bytes": size_now or candidate.entry.manifest.raw_bytes,
        }
    )


def _one(
    wiring: Wiring, coverage: Coverage, candidate: Candidate, point: Point, *, again: bool, as_json: bool
) -> int:
    with _display(candidate) as reporter:
        done = restore_point(wiring, coverage, candidate, point, reporter, again=again)
    restored = done.restored
    reached = done.reached.moment if done.reached else None
    if as_json:
        cli.print_json(
            {
                "ok": restored.ok,
                "into": restored.into,
                "base": done.base,
                "goal": str(point.goal),
                "lsn": lsn.text(done.reached.position) if done.reached else None,
                "last_commit": reached,
                "taken": restored.manifest.taken,
                "rows": restored.manifest.rows,
                "tables": len(restored.manifest.tables),
                "found": restored.found,
                "seconds": round(restored.seconds, 3),
                "notes": restored.notes,
                "differences": [each.model_dump() for each in restored.differences],
            }
        )
        return 0 if restored.ok else 1
    if restored.found:
        cli.echo(f"{restored.into} exists and is verified; nothing was changed. To restore again: --again")
    else:
        verdict = (
            "restored and verified"
            if restored.ok
            else f"NOT VERIFIED, {len(restored.differences)} differences"
        )
        last = f"last commit {moment(reached)}" if reached else "no commit after the base backup"
        cli.echo(
            f"{restored.into}: {verdict}; {counted(len(restored.manifest.tables), 'table')}, {counted(restored.manifest.rows, 'row')},"
            f" as of {point.goal} ({last}), in {duration(restored.seconds)}"
        )
    for difference in restored.differences:
        cli.echo(f"  ✖ {difference}")
    for note in restored.notes:
        cli.echo(f"  note: {note}")
    if restored.ok:
        cli.echo(f"next: python -m backup promote {restored.into}")
    return 0 if restored.ok else 1


def _whole(
    wiring: Wiring, coverage: Coverage, candidate: Candidate, goal: Goal, folder: Path, *, as_json: bool
) -> int:
    with _display(candidate) as reporter:
        done = restore_folder(wiring, coverage, candidate, goal, folder, reporter)
    if as_json:
        cli.print_json(
            {
                "ok": True,
                "folder": str(folder),
                "base": candidate.entry.id,
                "goal": str(goal),
                "lsn": lsn.text(done.reached.position),
                "last_commit": done.reached.moment,
                "slot": done.slot,
                "timeline": done.timeline,
                "notes": done.notes,
            }
        )
        return 0
    last = (
        f"last commit {moment(done.reached.moment)}"
        if done.reached.moment
        else "no commit after the base backup"
    )
    cli.echo(f"{folder}: the whole server as of {goal} ({last}), on timeline {done.timeline}")
    for note in done.notes:
        cli.echo(f"  note: {note}")
    cli.echo("next: give the folder to the user that runs PostgreSQL, and start it there; see docs/pitr.md")
    return 0


@contextmanager
def _display(candidate: Candidate) -> Iterator[Reporter]:
    """Report steps as lines, and the bytes of the base backup each minute in the log; on a terminal, as a bar."""
    manifest = candidate.entry.manifest
    with cli.progress(*bars.transfer()) as display:
        task = display.add_task("base backup", total=manifest.stored_bytes)
        meter = Meter(
            manifest.database,
            lambda count: display.advance(task, count),
            work="restore",
            expected=manifest.stored_bytes,
        )
        with meter.reporting():
            yield Reporter(print_step, meter.add)
