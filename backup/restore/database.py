"""Restores a backup into a new database of a live server, and verifies it before it gets its final name.

Until then it has a working name. If a run dies, the next run finds either a verified database, and is done, or a working
one that no process has locked, and starts from scratch. Production is not touched.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from backup.catalogue.history import Entry
from backup.catalogue.manifest import Manifest
from backup.catalogue.records import Difference
from backup.errors import DumpError, PreflightError, PromotedError, VerificationError
from backup.load.download import check_space, download
from backup.load.execution import carry_out
from backup.load.pg_restore import load_archive
from backup.load.properties import properties
from backup.load.space import guarded
from backup.load.throwaway import private_folder, sweep_folders
from backup.postgres import roles
from backup.postgres.databases import WORKING, Databases, Mark, Written, databases, roles_seen
from backup.postgres.dsn import Address
from backup.postgres.roles import Making
from backup.postgres.session import session
from backup.progress import Reporter, Timings
from backup.restore import names, statistics, touched
from backup.verify import roles as compare_roles
from backup.verify.checks import usable
from backup.verify.findings import Findings
from backup.verify.verifier import prove, raw_bytes
from backup.wiring import Wiring
from sidecar import UsageError
from sidecar.humanize import moment
from sidecar.logs import fields

log = logging.getLogger(__name__)

STEPS = (
    "check the server and its databases",
    "download, check and decompress the backup",
    "create an empty database",
    "create the roles that the server lacks",
    "restore the rows, indexes and constraints",
    "set the properties of the database",
    "compare with the backup: rows, objects, definitions, settings, roles",
    "collect statistics",
    "give it its final name",
)
# A crash of the server meanwhile loses only an unfinished database.
_OPTIONS = {"synchronous_commit": "off", "maintenance_work_mem": "256MB"}
# The unpacked archive is in our folder while it is restored.
SPACE_FACTOR = 1.1
NO_ROLES = Making((), (), (), {})


@dataclass(frozen=True)
class Restored:
    """The result of a restore.

    Attributes:
        into: the database with the restored data.
        differences: differences from the backup; empty if verified.
        found: an earlier run had already restored it, so nothing was changed.
        promoted: it has been promoted since.
    """

    into: str
    manifest: Manifest
    differences: tuple[Difference, ...] = ()
    stages: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    found: bool = False
    promoted: bool = False

    @property
    def ok(self) -> bool:
        return not self.differences

    @property
    def seconds(self) -> float:
        return sum(self.stages.values())


@dataclass
class _Restore:
    """A restore in progress."""

    wiring: Wiring
    entry: Entry
    server: Databases
    into: str
    reporter: Reporter
    findings: Findings = field(default_factory=Findings)
    roles: Making = NO_ROLES

    @property
    def stages(self) -> Timings:
        return self.findings.stages

    @property
    def working(self) -> Address:
        """The unfinished database."""
        return self.server.address.with_settings(_OPTIONS).named(names.working(self.into))


def restore(
    wiring: Wiring,
    entry: Entry,
    production: Address,
    into: str,
    reporter: Reporter | None = None,
    *,
    again: bool = False,
    proceed: bool = False,
) -> Restored:
    """Restore a backup into a new database next to production's, and verify it.

    Args:
        production: the live database, with a role that may create databases.
        into: the name of the new database.
        again: restore even if an earlier run has done so, or the result was promoted since.
        proceed: if this same restore was interrupted after its promotion, do nothing.

    Raises:
        PromotedError: it was promoted since; nothing was restored.
        UsageError: the name belongs to another database.
        PreflightError: the server does not allow it; nothing was changed.
        VerificationError: the backup itself is damaged; nothing was created.
    """
    reporter = reporter or Reporter()
    with (
        wiring.stop.limit(wiring.settings.timeout),
        databases(production) as server,
        server.lock(into),
        server.lock(names.working(into)),
    ):
        reporter.step(STEPS[0])
        found = check(server, entry, production.database, into, again=again, proceed=proceed)
        if found is not None:
            return Restored(into, entry.manifest, found=True, promoted=found.promoted)
        server.sweep(WORKING)
        work = _Restore(wiring, entry, server, into, reporter, Findings(reporter.bytes))
        journal = wiring.journal(entry.manifest.database)
        with journal.attempt("restore", backup=entry.id) as attempt:
            _restore(work)
            attempt.set(measures={"seconds": round(sum(work.stages.seconds.values()), 3)})
            if differences := work.findings.differences:
                attempt.fail(
                    VerificationError(
                        f"{into} is not verified: {differences[0]}", hint="python -m backup list"
                    )
                )
    return Restored(
        into,
        entry.manifest,
        tuple(work.findings.differences),
        work.stages.seconds,
        (*entry.manifest.notes, *work.findings.notes),
    )


def check(
    server: Databases, entry: Entry, production: str, into: str, *, again: bool = False, proceed: bool = False
) -> Mark | None:
    """Check that a database may be created; returns the mark of one that an earlier run created and verified.

    That one may be in production meanwhile. Whether this is the same restore, interrupted after its promotion, or a new
    one after a second accident, only the caller knows: see ``again`` and ``proceed`` of :func:`restore`.

    Raises:
        PromotedError: it is in production, and neither is set.
        UsageError, PreflightError: the database may not be created.
    """
    _check_name(server, production, into)
    marks = server.marks()
    found = _earlier(server, entry, marks.get(into), into) or _in_production(
        marks.get(production), entry, into
    )
    if again or found is None:
        return None
    if found.promoted and not proceed:
        raise PromotedError(
            f"{entry.id} was promoted into production at {moment(found.moment)}; NOTHING was restored",
            hint="to restore it once more, without what was written since, add --again",
        )
    return found


def _check_name(server: Databases, production: str, into: str) -> None:
    if into == production:
        raise UsageError(
            f"{into} is the live database",
            hint="restore into another name with --into, then: python -m backup promote",
        )
    if not names.fits(into):
        raise UsageError(f"{into!r} is too long for a database name", hint="use at most 63 bytes")
    if not server.may_create():
        raise PreflightError(
            f"the role that connects to {production} may not create databases",
            hint="set BACKUP_RESTORE_URL to the same database with a role that may create databases, such as its superuser",
        )


def _in_production(live: Mark | None, entry: Entry, into: str) -> Mark | None:
    same = live is not None and live.promoted and (live.origin, live.backup) == (into, entry.id)
    return live if same else None


def needed(server: Databases, entry: Entry, production: str) -> int:
    """Approximate size of the new database on the server's disk, in bytes: the size of the live one, or of the plain rows."""
    live = server.size(production) if server.exists(production) else 0
    return max(live, entry.manifest.raw_bytes)


def _earlier(server: Databases, entry: Entry, mark: Mark | None, into: str) -> Mark | None:
    if mark is None and server.exists(into):
        raise UsageError(
            f"the database {into} exists and was not created by a restore",
            hint="choose another name with --into",
        )
    if mark is None or mark.differences:
        return None
    if mark.state != "restored" or mark.backup != entry.id:
        raise UsageError(
            f"{into} contains {mark.backup} and is {mark.state}", hint="choose another name with --into"
        )
    return mark


def _restore(work: _Restore) -> None:
    wiring, manifest = work.wiring, work.entry.manifest
    usable(wiring.settings.verify_checks_dir, wiring.settings.verify_command)
    sweep_folders(wiring.settings.work_dir)
    with private_folder(wiring.settings.work_dir) as folder:
        check_space(folder, int(manifest.raw_bytes * SPACE_FACTOR), "the restore")
        files = _fetch(work, folder)
        with _database(work):
            _make_roles(work, files.get("globals"))
            _fill(work, files["archive"])
            _prove(work, files["archive"])
            _finish(work)


def _fetch(work: _Restore, folder: Path) -> dict[str, Path]:
    work.reporter.step(STEPS[1])
    with work.stages.measure("download"):
        files, differences = download(work.wiring, work.entry, folder, work.reporter.bytes)
    if differences or "archive" not in files:
        damage = "; ".join(map(str, differences)) or "it has no archive"
        raise VerificationError(
            f"{work.entry.id} is damaged; NOTHING was restored: {damage}",
            hint="choose another backup: python -m backup list; those marked verified have been restored once",
        )
    return files


def _make_roles(work: _Restore, dumped: Path | None) -> None:
    """Create the roles that the server lacks, within the new database.

    Their names, comments and settings are stored in the encoding of the session's database.
    """
    work.reporter.step(STEPS[3])
    if dumped is None:
        return
    with work.stages.measure("globals"):
        existing, powerful = roles_seen(work.working)
        work.roles = roles.missing(roles.read(dumped), existing, work.entry.manifest.roles, powerful)
        if work.roles.names:
            work.findings.notes += work.roles.notes
            work.findings.differences += carry_out(
                work.working, "globals", work.roles.statements, work.wiring.stop.check
            )


@contextmanager
def _database(work: _Restore) -> Iterator[None]:
    """An empty database under its working name. It is renamed if everything succeeds, and dropped otherwise."""
    work.reporter.step(STEPS[2])
    working = work.working.database
    try:
        # Within the block: a signal may arrive when the server has just created it.
        with work.stages.measure("restore"):
            work.server.drop(working)
            work.server.create(working, work.entry.manifest.server)
        yield
    except BaseException:
        work.server.drop(working)
        raise


def _fill(work: _Restore, archive: Path) -> None:
    wiring = work.wiring
    work.reporter.step(STEPS[4])
    with work.stages.measure("restore"):
        work.findings.differences += load_archive(
            wiring.programs,
            work.working,
            archive,
            wiring.restore_jobs,
            guarded(wiring, archive.parent),
            work.reporter.table,
        )
    work.reporter.bytes(raw_bytes(work.entry.manifest, "archive"))
    work.reporter.step(STEPS[5])
    with work.stages.measure("settle"):
        statements = properties(wiring.programs, archive, work.working.database)
        # Within the database: comments and settings are stored in the encoding of the session's.
        work.findings.differences += carry_out(work.working, "settings", statements, wiring.stop.check)


def _prove(work: _Restore, archive: Path) -> None:
    work.reporter.step(STEPS[6])
    prove(work.wiring, work.entry.manifest, archive, work.working, work.findings)
    if work.roles.expected:
        _compare_roles(work)


def _compare_roles(work: _Restore) -> None:
    """Compare the created roles with the originals. An existing role stays as it is, which is noted."""
    manifest, programs = work.entry.manifest, work.wiring.programs
    exact = manifest.server.version_number // 10000 == programs.major("pg_dumpall")
    try:
        there = compare_roles.dumped(programs, work.working, work.wiring.stop.check)
    except DumpError as error:
        work.findings.notes.append(f"roles were not compared: {error.message}")
        return
    wanted, found = (compare_roles.by_role(each, exact=exact) for each in (work.roles.expected, there))
    made = set(work.roles.names)
    work.findings.differences += compare_roles.compare(wanted, found, made)
    for each in compare_roles.compare(wanted, found, set(manifest.roles) - made):
        work.findings.notes.append(
            f"role {each.object} already exists and was not changed: in the backup {each.expected}, here {each.found}"
        )


def _finish(work: _Restore) -> None:
    work.reporter.step(STEPS[7])
    with work.stages.measure("settle"), session(work.working) as connection:
        work.findings.notes += statistics.collect(connection)
        written = touched.written(connection)
    work.reporter.step(STEPS[8])
    _name(work, work.wiring.clock(), written)


def _name(work: _Restore, now: datetime, written: Written | None) -> None:
    """Set name and mark together, in one transaction."""
    mark = Mark(
        state="restored",
        moment=now,
        database=work.entry.manifest.database,
        backup=work.entry.id,
        taken=work.entry.manifest.taken,
        differences=len(work.findings.differences),
        anomalies=work.entry.manifest.anomalies,
        written=written,
    )
    server = work.server
    if server.exists(work.into):  # left by an earlier restore that was not verified
        server.drop(work.into)
    server.disconnect(work.working.database)
    with server.transaction():
        server.rename(work.working.database, work.into)
        server.mark(work.into, mark)
    log.info(
        "restored %s",
        fields(id=work.entry.id, into=work.into, differences=mark.differences, rows=work.entry.manifest.rows),
    )
