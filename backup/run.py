"""Takes one backup from start to finish. The manifest is written last; until then there is no backup."""

import logging
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path

from backup import __version__
from backup.cancellation import limited
from backup.catalogue import layout
from backup.catalogue.commit import commit, confirm, discard
from backup.catalogue.history import CLOCK_TOLERANCE
from backup.catalogue.ids import new_id
from backup.catalogue.journal import OpenAttempt
from backup.catalogue.manifest import Manifest
from backup.catalogue.sweep import sweep
from backup.engine import DumpContext, DumpResult, Engine, Lock, PreflightResult
from backup.errors import PreflightError, SpaceError, StoreAccessError, StoreError
from backup.hooks import around
from backup.hostlock import host_lock
from backup.ownership import lineage
from backup.pipeline.encrypt import fingerprint
from backup.policy.anomaly import judged
from backup.postgres.engine import PostgresEngine
from backup.postgres.snapshot import Judge
from backup.progress import Meter, Progress, Timings, silent
from backup.store import RetryingStore
from backup.targets import PostgresTarget, ServerTarget, Target
from backup.wiring import Wiring
from sidecar import OpsError
from sidecar.humanize import duration, size
from sidecar.logs import fields

log = logging.getLogger(__name__)

TOOL = f"posthub-ops backup {__version__}"
# Seconds for the first queries to a database: if it responds at all, each of them is quick.
ANSWER_SECONDS = 60.0
ANSWER_HINT = "check the server: it accepts connections but does not answer queries"
# The spool must have room for a backup that is this much larger than the last one.
SPOOL_MARGIN = 1.25


def run(
    wiring: Wiring,
    target: Target,
    progress: Progress = silent,
    *,
    strict: bool = True,
    packed: int | None = None,
    adopt: bool = False,
    expect: Progress = silent,
) -> Manifest:
    """Back up one database: into the main store, or into the spool if the main store fails.

    Args:
        progress: called with the number of uncompressed bytes that the dump produced.
        strict: fail at once if the store rejects our credentials. The service uses the spool instead.
        packed: stored bytes of the last backup, if known; the spool must have room for as much.
        adopt: the database's server replaces the one whose backups are in the folder.
        expect: called with the number of uncompressed bytes of the last backup, if there is one.

    Raises:
        PreflightError, StoreAccessError: the backup cannot work. Nothing was changed.
        BusyError: another run is in progress.
        OpsError: the run failed. There is no manifest, and older backups are unchanged.
    """
    settings = wiring.settings
    limit = wiring.stop.limit(settings.timeout, silence=settings.stall_timeout, name=target.name)
    with limit, _measured(wiring, target, progress) as meter:
        store = _destination(wiring, target, strict=strict)
        try:
            return _Run(wiring, target, store, meter, packed, adopt, expect).carry_out()
        except StoreError as error:
            if not _spools(wiring, target) or store is wiring.spool:
                raise
            assert wiring.spool is not None
            log.error("the store failed, the spool takes over: %s", error.message)  # noqa: TRY400 - the message says it
            return _Run(wiring, target, wiring.spool, meter, packed, adopt, expect).carry_out()


@contextmanager
def _measured(wiring: Wiring, target: Target, progress: Progress) -> Iterator[Meter]:
    """A meter that the metrics show while the run is in progress."""
    meter = wiring.meters[target.name] = Meter(target.name, progress)
    try:
        with meter.reporting():
            yield meter
    finally:
        wiring.meters.pop(target.name, None)


def _destination(wiring: Wiring, target: Target, *, strict: bool) -> RetryingStore:
    """Where the backup goes. A failure is recorded, because the output may go unread."""
    try:
        return destination(wiring, strict=strict or not _spools(wiring, target))
    except OpsError as error:
        wiring.journal(target.name).failed_without_store("backup", error)
        raise


def _spools(wiring: Wiring, target: Target) -> bool:
    """Whether the spool takes over if the store fails. A base backup is worthless without its server's log."""
    return wiring.spool is not None and not isinstance(target, ServerTarget)


def check_clock(whose: str, ahead: timedelta | None) -> None:
    """Check that another clock agrees with ours: IDs, ages and retention are based on ours.

    Args:
        ahead: how far the other clock is ahead of ours; None if not known.

    Raises:
        PreflightError: they disagree.
    """
    if ahead is None or abs(ahead) <= CLOCK_TOLERANCE:
        return
    behind = "behind" if ahead > timedelta(0) else "ahead of"
    raise PreflightError(
        f"this host's clock is {duration(abs(ahead).total_seconds())} {behind} the clock of {whose}",
        hint="synchronise the clocks (NTP), and run it again",
    )


def destination(wiring: Wiring, *, strict: bool) -> RetryingStore:
    """The main store if it answers, otherwise the spool.

    Raises:
        StoreError: neither answers.
    """
    try:
        wiring.store.check()
    except StoreError as error:
        if wiring.spool is None or (strict and isinstance(error, StoreAccessError)):
            raise
        log.error("the store does not answer; the backup goes to the spool: %s", error.message)  # noqa: TRY400 - the same
        wiring.spool.check()
        return wiring.spool
    return wiring.store


def engine_for(wiring: Wiring, target: Target) -> Engine:
    """The engine of a target's kind. Most runs need one, and an import takes longer than some of their queries."""
    if isinstance(target, PostgresTarget):
        judge = _judge(wiring) if wiring.servers else None
        here = wiring.settings.verify_url is None
        return PostgresEngine(target.address, wiring.programs, wiring.exclusion, judge, verified_here=here)
    if isinstance(target, ServerTarget):
        from backup.physical.base import ServerEngine

        return ServerEngine(target.name, target.address, wiring.keys)
    from backup.redis.engine import RedisEngine

    return RedisEngine(target.address)


def _judge(wiring: Wiring) -> Judge:
    from backup.physical.probe import has_place

    return partial(has_place, wiring)


class _Run:
    """One attempt to write one backup to one store."""

    def __init__(
        self,
        wiring: Wiring,
        target: Target,
        store: RetryingStore,
        meter: Meter,
        packed: int | None,
        adopt: bool,
        expect: Progress,
    ) -> None:
        self._wiring = wiring
        self._target = target
        self._store = store
        self._meter = meter
        self._expect = expect
        self._packed = packed
        self._adopt = adopt
        self._adopted: tuple[str, ...] = ()
        self._started = wiring.clock()
        self._id = new_id(self._started)
        self._folder = layout.folder(target.name, self._id)
        self._timings = Timings()

    def carry_out(self) -> Manifest:
        """Record everything from the first query on: an attempt must not go unrecorded."""
        journal = self._wiring.journal(self._target.name, self._store)
        with journal.attempt("backup", attempt_id=self._id, backup=self._id) as attempt:
            self._check_store_clock()
            engine = engine_for(self._wiring, self._target)
            with limited(ANSWER_SECONDS, f"{self._target.name} did not answer within a minute", ANSWER_HINT):
                ready = replace(engine.preflight(), packed=self._packed)
            check_clock("the database", ready.clock)
            self._adopted = self._lineage(ready)
            with engine.lock() as lock:
                journal.close_dead("backup", but=self._id)
                with self._hooks(attempt):
                    return self._dump(engine, ready, lock, attempt)

    def _hooks(self, attempt: OpenAttempt) -> AbstractContextManager[None]:
        settings, target = self._wiring.settings, self._target
        facts = {"HOOK_DATABASE": target.name, "HOOK_KIND": target.kind, "HOOK_BACKUP": self._id}
        before, after = settings.before_command, settings.after_command
        secrets = [*settings.secrets(), *self._wiring.secrets]
        return around(before, after, facts, attempt, self._wiring.stop.check, secrets)

    def _dump(self, engine: Engine, ready: PreflightResult, lock: Lock, attempt: OpenAttempt) -> Manifest:
        log.info("backup begins %s", fields(id=self._id, database=self._target.name, bytes=ready.size))
        self._prepare(ready, attempt)
        try:
            manifest = self._make(engine, ready, lock)
        except BaseException:
            self._clean_up()
            raise
        for note in manifest.notes:
            log.warning("not in the backup: %s", note)
        log.info("backup committed %s", fields(id=self._id, rows=manifest.rows, stored=manifest.stored_bytes))
        return manifest

    def _lineage(self, ready: PreflightResult) -> tuple[str, ...]:
        newest = self._wiring.reader(self._store).recent_manifests(self._target.name, 1)
        if newest:
            self._meter.expected = newest[0].raw_bytes
            self._expect(newest[0].raw_bytes)
        where = f"{self._target.name} in {self._store.url}"
        return lineage(newest[0] if newest else None, ready.system_identifier, where, adopt=self._adopt)

    def _check_store_clock(self) -> None:
        """Read the store's clock from the record of this run's start that it has just stored."""
        key = layout.attempt(self._target.name, self._id, "backup")
        before = self._wiring.clock()
        info = self._store.head(key)
        if info is not None:
            check_clock(f"the store {self._store.url}", info.modified - min(before, self._wiring.clock()))

    def _prepare(self, ready: PreflightResult, attempt: OpenAttempt) -> None:
        with (
            self._timings.measure("sweep"),
            host_lock(self._wiring.lock_folder, self._target.name, self._wiring.stop.sleep),
        ):
            attempt.set(problems=sweep(self._store, self._target.name).problems)
        if self._wiring.spool is not None and self._store is self._wiring.spool:
            check_room(self._wiring, self._target, ready)

    def _make(self, engine: Engine, ready: PreflightResult, lock: Lock) -> Manifest:
        retain = self._wiring.retain_until(self._started)
        packing = replace(self._wiring.packing, retain_until=retain)
        dumped = engine.dump(
            DumpContext(
                self._store, self._folder, packing, self._timings, self._meter.add, self._wiring.stop.check
            )
        )
        self._wiring.stop.check()
        lock.confirm()
        with self._timings.measure("commit"):
            confirm(self._store, self._folder, dumped.objects)
        manifest = self._judged(self._manifest(dumped, ready.client))
        commit(self._store, manifest, self._wiring.keys, retain_until=retain)
        return manifest

    def _clean_up(self) -> None:
        """Remove what a failed run has stored, as far as the store allows. The next run's sweep removes the rest."""
        try:
            discard(self._store, self._target.name, self._id)
        except Exception as error:
            log.warning("leftovers remain until the next run removes them: %s", error)

    def _manifest(self, dumped: DumpResult, client: str) -> Manifest:
        return Manifest(
            id=self._id,
            database=self._target.name,
            kind=self._target.kind,
            taken=dumped.taken,
            started=self._started,
            finished=self._wiring.clock(),
            tool=TOOL,
            client=client,
            server=dumped.server,
            objects=dumped.objects,
            recipients=tuple(map(fingerprint, self._wiring.settings.age_recipients)),
            stages=self._timings.seconds,
            adopted=self._adopted,
            **dumped.facts,
        )

    def _judged(self, manifest: Manifest) -> Manifest:
        """The manifest with its anomalies: differences from the backups before."""
        try:
            before = self._wiring.reader(self._store).recent_manifests(
                self._target.name, self._wiring.limits.window
            )
        except StoreError as error:
            log.warning("not compared with earlier backups: %s", error.message)
            return manifest
        return judged(manifest, before, self._wiring.limits)


def check_room(wiring: Wiring, target: Target, ready: PreflightResult) -> None:
    """Check that the spool has room for another backup.

    Raises:
        SpaceError: the spool has too little space.
    """
    assert wiring.settings.spool_dir is not None
    needed = int(_expected_size(wiring, target, ready) * SPOOL_MARGIN)
    free = shutil.disk_usage(_existing(wiring.settings.spool_dir)).free
    if free < needed:
        raise SpaceError(
            f"the store is down and the spool is too small: {size(free)} free, {size(needed)} needed",
            hint=f"free space in {wiring.settings.spool_dir}, or make the store available again",
        )


def _expected_size(wiring: Wiring, target: Target, ready: PreflightResult) -> int:
    """The size of the last backup; if there is none, the size of the data, as if it could not be compressed."""
    assert wiring.spool is not None
    latest = wiring.reader(wiring.spool).recent_manifests(target.name, 1)
    return latest[0].stored_bytes if latest else ready.packed or ready.size


def _existing(folder: Path) -> Path:
    return next(parent for parent in (folder, *folder.parents) if parent.exists())
