"""Verifies a backup: download, restore into a throwaway server, compare, store the report."""

import logging
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from backup.catalogue import layout
from backup.catalogue.document import encode
from backup.catalogue.manifest import Manifest
from backup.catalogue.reader import Entry
from backup.catalogue.records import Difference, Report
from backup.errors import VerificationError
from backup.load.download import check_space, download
from backup.load.pg_restore import load_archive
from backup.load.space import floored
from backup.load.throwaway import private_folder, sweep_folders
from backup.postgres.dsn import Address
from backup.progress import Progress, Timings, silent
from backup.run import TOOL
from backup.verify.checks import command_check, sql_checks
from backup.verify.compare import compare_counts, compare_dumps
from backup.verify.scratch import Scratch, scratch
from backup.wiring import Wiring
from sidecar import OpsError
from sidecar.logs import fields

log = logging.getLogger(__name__)

# Space for the archive and the restored database with its indexes.
SPACE_FACTOR = 3.0


@dataclass
class Findings:
    """What a verification has found so far."""

    stages: Timings = field(default_factory=Timings)
    differences: list[Difference] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def verify(wiring: Wiring, entry: Entry, progress: Progress = silent) -> Report:
    """Verify one backup and store the report.

    Returns:
        The report. Differences are part of it and raise nothing.

    Raises:
        VerificationError, StoreError: the verification could not be carried out, so it says nothing about the backup.
    """
    manifest = entry.manifest
    store = wiring.store_named(entry.store)
    journal = wiring.journal(manifest.database, store)
    with (
        wiring.stop.limit(wiring.settings.timeout),
        journal.attempt("verification", backup=manifest.id) as attempt,
    ):
        started = wiring.clock()
        findings = Findings()
        server = _verify(wiring, entry, findings, progress)
        report = Report(
            backup=manifest.id,
            database=manifest.database,
            manifest=manifest.digest,
            started=started,
            finished=wiring.clock(),
            ok=not findings.differences,
            differences=tuple(findings.differences),
            notes=tuple(findings.notes),
            tables=len(manifest.tables),
            rows=manifest.rows,
            stages=findings.stages.seconds,
            server=server,
            tool=TOOL,
        )
        store.put(
            layout.report(report.database, report.backup, report.finished),
            encode(report, wiring.keys),
            retain_until=_retain(wiring, manifest),
        )
        if not report.ok:
            attempt.fail(OpsError(_first(report), hint=f"python -m backup show {report.backup}"))
    _tell(report)
    return report


def _retain(wiring: Wiring, manifest: Manifest) -> datetime | None:
    """As long as the backup itself, so that both can go together."""
    until = wiring.retain_until(manifest.started)
    return until if until is not None and until > wiring.clock() else None


def _verify(wiring: Wiring, entry: Entry, findings: Findings, progress: Progress) -> str:
    """Restore and compare; returns the version of the throwaway server."""
    if entry.manifest.kind == "redis":
        return _verify_redis(wiring, entry, findings, progress)
    return _verify_postgres(wiring, entry, findings, progress)


def _verify_postgres(wiring: Wiring, entry: Entry, findings: Findings, progress: Progress) -> str:
    manifest = entry.manifest
    with scratch(wiring, manifest) as place:
        check_space(place.folder, int(manifest.raw_bytes * SPACE_FACTOR), "the verification")
        files = _download(wiring, entry, place.folder, findings, progress)
        # Restoring bytes that are known to be wrong would only report the same less clearly.
        if not findings.differences:
            _restore_and_compare(wiring, manifest, place, files, findings)
        return place.version


def _verify_redis(wiring: Wiring, entry: Entry, findings: Findings, progress: Progress) -> str:
    from backup.verify import redis  # the client library is slow to import, and most runs do not need it

    programs = wiring.redis_programs
    sweep_folders(wiring.settings.work_dir)
    with private_folder(wiring.settings.work_dir) as folder:
        check_space(folder, int(entry.manifest.raw_bytes * SPACE_FACTOR), "the verification")
        files = _download(wiring, entry, folder, findings, progress)
        if not findings.differences:
            rdb = files["rdb"].rename(folder / layout.RDB)
            with findings.stages.measure("check"):
                findings.differences += redis.check_rdb(programs, rdb, wiring.stop.check)
        if not findings.differences:
            _load_and_compare(wiring, entry.manifest, folder, findings)
    return programs.version("redis-server")


def _load_and_compare(wiring: Wiring, manifest: Manifest, folder: Path, findings: Findings) -> None:
    from backup.verify import redis

    with ExitStack() as stack:
        with findings.stages.measure("restore"):
            client = stack.enter_context(redis.server(wiring.redis_programs, folder, _check(wiring, folder)))
        with findings.stages.measure("compare"):
            findings.differences += redis.compare_keys(manifest, client)


def _download(
    wiring: Wiring, entry: Entry, folder: Path, findings: Findings, progress: Progress
) -> dict[str, Path]:
    with findings.stages.measure("download"):
        files, differences = download(wiring, entry, folder, progress)
    findings.differences += differences
    return files


def _restore_and_compare(
    wiring: Wiring, manifest: Manifest, place: Scratch, files: dict[str, Path], findings: Findings
) -> None:
    archive = files.get("archive")
    if archive is None:
        raise VerificationError(f"backup {manifest.id} has no archive", hint="use the version that wrote it")
    if "globals" in files:
        with findings.stages.measure("globals"):
            findings.differences += place.load_globals(files["globals"])
    with findings.stages.measure("restore"):
        note = place.create()
        findings.differences += load_archive(
            wiring.programs, place.database, archive, wiring.restore_jobs, _check(wiring, archive.parent)
        )
    findings.notes += [note] if note else []
    prove(wiring, manifest, archive, place.database, findings)


def _check(wiring: Wiring, folder: Path) -> Callable[[], None]:
    return floored(folder, wiring.settings.work_dir_floor, wiring.stop.carried())


def prove(wiring: Wiring, manifest: Manifest, archive: Path, database: Address, findings: Findings) -> None:
    """Compare a restored database with its manifest and archive, and run the users' own checks."""
    with findings.stages.measure("count"):
        findings.differences += compare_counts(manifest, database)
    with findings.stages.measure("compare"):
        check = _check(wiring, archive.parent)
        differences, notes = compare_dumps(manifest, wiring.programs, archive, database, check)
    findings.differences += differences
    findings.notes += notes
    settings = wiring.settings
    with findings.stages.measure("checks"):
        if settings.verify_checks_dir is not None:
            findings.differences += sql_checks(settings.verify_checks_dir, database)
        if settings.verify_command:
            findings.differences += command_check(
                settings.verify_command, database, archive.parent, wiring.stop.check
            )


def _first(report: Report) -> str:
    more = f" and {len(report.differences) - 1} more" if len(report.differences) > 1 else ""
    return f"{report.differences[0]}{more}"


def _tell(report: Report) -> None:
    facts = fields(
        id=report.backup, database=report.database, tables=report.tables, rows=report.rows,
        restore_seconds=report.restore_seconds, differences=len(report.differences),
    )  # fmt: skip
    if report.ok:
        log.info("verification passed %s", facts)
        return
    log.error("verification FAILED %s", facts)
    for difference in report.differences:
        log.error("difference %s", difference)
