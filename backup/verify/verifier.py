"""Verifies a backup: download, restore into a throwaway server, compare, store the report."""

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TypeVar

from backup.cancellation import carry
from backup.catalogue import layout
from backup.catalogue.document import encode
from backup.catalogue.history import Entry
from backup.catalogue.manifest import Manifest, Role
from backup.catalogue.records import Difference, Report
from backup.errors import PreflightError, UnprovableError, VerificationError
from backup.load.download import download
from backup.load.execution import carry_out
from backup.load.passes import Pass, passes
from backup.load.pg_restore import load_archive
from backup.load.properties import properties
from backup.load.space import guarded
from backup.load.throwaway import private_folder, sweep_folders
from backup.postgres.archive import contents
from backup.postgres.dsn import Address
from backup.progress import Meter, Progress, silent
from backup.run import TOOL
from backup.store import Store
from backup.verify import configured, provable, provided, unrestorable
from backup.verify.checks import command_check, sql_checks, usable
from backup.verify.compare import Reading, compare_counts, compare_dumps, reading
from backup.verify.findings import Findings
from backup.verify.large_tables import Exchange
from backup.verify.remote_views import without_remote
from backup.verify.scratch import Scratch, scratch
from backup.verify.server import verify_server
from backup.wiring import Wiring
from sidecar import OpsError
from sidecar.logs import fields

log = logging.getLogger(__name__)

SPACE_FACTOR = provable.SPACE_FACTOR
T = TypeVar("T")
# docs/restore.md has the same list.
NOT_COVERED = (
    "not covered by a proof: passwords of roles, attributes of the server's own superuser, predefined roles and their comments,"
    " settings of all roles and of the server, tablespaces, rows of foreign tables, materialized views as of their last refresh,"
    " subscriptions at their publisher, which neighbours an approximate index returns"
)


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
        _measured(wiring, manifest, progress) as meter,
        journal.attempt("verification", backup=manifest.id) as attempt,
    ):
        started = wiring.clock()
        findings = Findings(meter.add)
        server = _verify(wiring, entry, findings, meter.add)
        findings.unprovable += provable.afterwards(findings.differences, findings.suspicions)
        report = Report(
            backup=manifest.id,
            database=manifest.database,
            manifest=manifest.digest,
            started=started,
            finished=wiring.clock(),
            ok=not findings.differences and not findings.unprovable,
            differences=tuple(findings.differences),
            notes=(*manifest.notes, *findings.notes),
            unprovable=tuple(findings.unprovable),
            tables=len(manifest.tables),
            rows=manifest.rows,
            stages=findings.stages.seconds,
            measures=findings.measures,
            server=server,
            tool=TOOL,
        )
        store.put(
            _report_key(store, report),
            encode(report, wiring.keys),
            retain_until=_retain(wiring, manifest),
        )
        if not report.ok:
            attempt.fail(OpsError(_first(report), hint=f"python -m backup show {report.backup}"))
    _log(report)
    return report


def expected_bytes(manifest: Manifest) -> int:
    """The bytes that pass in a verification: it downloads what is stored, restores a dump, and reads it once more."""
    return manifest.stored_bytes + 2 * raw_bytes(manifest, "archive")


def raw_bytes(manifest: Manifest, role: Role) -> int:
    """The uncompressed bytes of the objects of one role."""
    return sum(stored.raw_bytes for stored in manifest.objects if stored.role == role)


@contextmanager
def _measured(wiring: Wiring, manifest: Manifest, progress: Progress) -> Iterator[Meter]:
    """A meter that the metrics show while the verification is in progress."""
    name = manifest.database
    meter = Meter(name, progress, work="verification", expected=expected_bytes(manifest))
    wiring.proving[name] = meter
    try:
        with meter.reporting():
            yield meter
    finally:
        wiring.proving.pop(name, None)


def _retain(wiring: Wiring, manifest: Manifest) -> datetime | None:
    """Lock it for as long as the backup itself, so that both can be deleted together."""
    until = wiring.retain_until(manifest.started)
    return until if until is not None and until > wiring.clock() else None


def _verify(wiring: Wiring, entry: Entry, findings: Findings, progress: Progress) -> str:
    """Restore and compare; returns the version of the throwaway server."""
    if entry.manifest.kind == "redis":
        return _verify_redis(wiring, entry, findings, progress)
    if entry.manifest.kind == "server":
        return verify_server(wiring, entry, findings, progress)
    return _verify_postgres(wiring, entry, findings, progress)


def _verify_postgres(wiring: Wiring, entry: Entry, findings: Findings, progress: Progress) -> str:
    manifest, settings, programs = entry.manifest, wiring.settings, wiring.programs
    given = configured.address_of(settings)
    findings.unprovable += provable.beforehand(
        manifest, programs, settings.work_dir, given=given is not None, floor=settings.work_dir_floor
    )
    here = programs.version("pg_restore") if programs.has("pg_restore") else ""
    if given is not None and here:
        names = [extension.name for extension in manifest.extensions]
        lacks = configured.lacking(given, programs, names)
        findings.unprovable += [f"{what}: {advice}" for what, advice in lacks]
    usable(settings.verify_checks_dir, settings.verify_command)
    if findings.unprovable:
        return here
    used = "postgres" if given is None else "pg_restore"
    findings.suspicions += provable.suspicions(manifest.server, programs, used)
    findings.notes.append(NOT_COVERED)
    with (
        private_folder(settings.work_dir) as folder,
        _meanwhile(
            partial(_prepare, wiring, entry, folder, findings, progress, alone=given is None)
        ) as preparing,
        scratch(wiring, manifest, folder) as place,
    ):
        files, runs = preparing.result()
        # Restoring bytes that are known to be wrong would only report the same fault less clearly.
        if not findings.differences:
            _restore_and_compare(wiring, manifest, place, files, runs, findings)
        if place.given:
            errors = [each.found for each in findings.differences]
            findings.unprovable += configured.refused(errors)
        return place.version


def _verify_redis(wiring: Wiring, entry: Entry, findings: Findings, progress: Progress) -> str:
    from backup.redis.product import product_here  # Redis's client library is slow to load
    from backup.verify import redis

    programs, manifest = wiring.redis_programs, entry.manifest
    needed, settings = int(manifest.raw_bytes * SPACE_FACTOR), wiring.settings
    findings.unprovable += provable.no_room(needed, settings.work_dir, settings.work_dir_floor)
    try:
        here = str(product_here(programs, manifest.server.product or "redis"))
    except PreflightError as error:
        findings.unprovable.append(f"{error.message}: {error.hint}")
        return ""
    if findings.unprovable:
        return here
    sweep_folders(wiring.settings.work_dir)
    with private_folder(wiring.settings.work_dir) as folder:
        files = _download(wiring, entry, folder, findings, progress)
        if findings.differences:
            return here
        rdb = files["rdb"].rename(folder / layout.RDB)
        findings.unprovable += redis.unloadable_reasons(rdb, manifest, programs)
        if findings.unprovable:
            return here
        try:
            _check_and_load(wiring, manifest, folder, rdb, findings)
        except UnprovableError as error:
            findings.unprovable.append(f"{error.message}: {error.hint}")
    return here


def _check_and_load(wiring: Wiring, manifest: Manifest, folder: Path, rdb: Path, findings: Findings) -> None:
    from backup.verify import redis

    with findings.stages.measure("check"):
        findings.differences += redis.check_rdb(wiring.redis_programs, rdb, wiring.stop.check)
    if findings.differences:
        return
    with ExitStack() as stack:
        with findings.stages.measure("restore"):
            modules = wiring.settings.redis_modules.split()
            client = stack.enter_context(
                redis.server(wiring.redis_programs, folder, manifest, guarded(wiring, folder), modules)
            )
        with findings.stages.measure("compare"):
            findings.differences += redis.compare_keys(manifest, client)
            findings.notes += redis.notes(manifest, client)


def _prepare(
    wiring: Wiring, entry: Entry, folder: Path, findings: Findings, progress: Progress, *, alone: bool
) -> tuple[dict[str, Path], list[Pass]]:
    """Download a backup, and decide how to restore its archive, while the server is started."""
    files = _download(wiring, entry, folder, findings, progress)
    if findings.differences or "archive" not in files:
        return files, []
    check = guarded(wiring, folder)
    return files, passes(wiring.programs, files["archive"], wiring.restore_jobs, check, alone=alone)


def _download(
    wiring: Wiring, entry: Entry, folder: Path, findings: Findings, progress: Progress
) -> dict[str, Path]:
    with findings.stages.measure("download"):
        files, differences = download(wiring, entry, folder, progress)
    findings.differences += differences
    return files


def _restore_and_compare(
    wiring: Wiring,
    manifest: Manifest,
    place: Scratch,
    files: dict[str, Path],
    runs: list[Pass],
    findings: Findings,
) -> None:
    archive = files.get("archive")
    if archive is None:
        raise VerificationError(f"backup {manifest.id} has no archive", hint="use the version that wrote it")
    with findings.stages.measure("restore"):
        note = place.create()
    if "globals" in files:
        with findings.stages.measure("globals"):
            findings.differences += place.load_globals(files["globals"])
    check = guarded(wiring, archive.parent)
    with (
        reading(wiring.programs, archive, check) as expected,
        _meanwhile(partial(properties, wiring.programs, archive, place.database.database)) as statements,
    ):
        with findings.stages.measure("restore"):
            findings.differences += load_archive(
                wiring.programs,
                place.database,
                archive,
                wiring.restore_jobs,
                check,
                alone=not place.given,
                runs=runs,
                refusals=findings.refusals,
            )
        findings.progress(raw_bytes(manifest, "archive"))
        findings.notes += [note] if note else []
        findings.suspicions += [*([note] if note else place.sorting()), *place.versions()]
        with findings.stages.measure("settings"):
            # Within the database: comments and settings are stored in the encoding of the session's.
            findings.differences += carry_out(
                place.database, "settings", statements.result(), wiring.stop.check
            )
        prove(
            wiring,
            manifest,
            archive,
            place.database,
            findings,
            locale=not note,
            expected=expected,
            exchange=place.exchange,
        )
    if "globals" in files:
        with findings.stages.measure("globals"):
            findings.differences += place.compare_globals()
    if findings.refusals.messages:
        findings.unprovable += unrestorable.reasons(
            findings.refusals, contents(archive), findings.differences, manifest
        )


def prove(
    wiring: Wiring,
    manifest: Manifest,
    archive: Path,
    database: Address,
    findings: Findings,
    *,
    locale: bool = True,
    expected: Reading | None = None,
    exchange: Exchange | None = None,
) -> None:
    """Compare a restored database with manifest and archive, and run the users' own checks.

    Args:
        locale: whether it was made with the original's locale, so that this is compared too.
        expected: the archive's digests, if it is already being read.
        exchange: how the server, if it is a throwaway one, passes the rows of large tables.
    """
    with _meanwhile(partial(_count, manifest, database, findings)) as counting:
        with findings.stages.measure("compare"):
            check = guarded(wiring, archive.parent)
            compared = compare_dumps(
                manifest,
                wiring.programs,
                archive,
                database,
                check,
                locale=locale,
                progress=findings.progress,
                expected=expected,
                exchange=exchange,
            )
        counted, notes = counting.result()
    findings.differences += [*compared.without_moved(counted), *compared.differences]
    findings.differences, remote = without_remote(findings.differences, database)
    findings.notes += [*notes, *compared.notes, *remote]
    settings = wiring.settings
    with findings.stages.measure("checks"):
        if settings.verify_checks_dir is not None:
            findings.differences += sql_checks(settings.verify_checks_dir, database)
        if settings.verify_command:
            findings.differences += command_check(
                settings.verify_command,
                database,
                archive.parent,
                wiring.stop.check,
                [*settings.secrets(), *wiring.secrets],
            )


def _count(manifest: Manifest, database: Address, findings: Findings) -> tuple[list[Difference], list[str]]:
    with findings.stages.measure("count"):
        errors = [each.found for each in findings.differences if each.kind == "restore"]
        notes, causes = provided.compared(manifest, database, errors)
        findings.suspicions += causes
        return compare_counts(manifest, database), notes


@contextmanager
def _meanwhile(work: Callable[[], T]) -> Iterator[Future[T]]:
    """Work in another thread while the block runs; it ends early if the block fails."""
    failed = threading.Event()
    with ThreadPoolExecutor(1, thread_name_prefix="meanwhile") as pool:
        try:
            yield pool.submit(carry(work, over=failed.is_set))
        except BaseException:
            failed.set()
            raise


def _report_key(store: Store, report: Report) -> str:
    """The key of a report; one from the same second is not overwritten."""
    finished = report.finished
    while store.head(key := layout.report(report.database, report.backup, finished)) is not None:
        finished += timedelta(seconds=1)
    return key


def _first(report: Report) -> str:
    if report.unprovable:
        return f"could not be verified here: {'; '.join(report.unprovable)}"
    more = f" and {len(report.differences) - 1} more" if len(report.differences) > 1 else ""
    return f"{report.differences[0]}{more}"


def _log(report: Report) -> None:
    facts = fields(
        id=report.backup,
        database=report.database,
        tables=report.tables,
        rows=report.rows,
        restore_seconds=report.restore_seconds,
        differences=len(report.differences),
    )
    if report.ok:
        log.info("verification passed %s", facts)
        return
    if report.unprovable:
        log.warning("could not be verified here: %s %s", "; ".join(report.unprovable), facts)
    else:
        log.error("verification FAILED %s", facts)
    for difference in report.differences:
        log.error("difference %s", difference)
