"""Metrics, computed from the catalogue at each scrape, so that a restart loses nothing."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from backup import __version__
from backup.catalogue.history import Entry, History, projected_rto
from backup.catalogue.records import Attempt
from backup.confinement import strength
from backup.prune import plan_for
from backup.service.state import State

OUTCOMES = ("success", "failure")
STAGES = ("sweep", "globals", "dump", "count", "commit")
TIERS = ("last", "within", "hourly", "daily", "weekly", "monthly", "yearly", "floor")
VERIFY_STAGES = ("download", "globals", "restore", "check", "count", "compare", "checks")
OPERATIONS = (
    "check",
    "get",
    "put",
    "list",
    "head",
    "delete",
    "begin",
    "part",
    "complete",
    "pending",
    "abort",
)


class CatalogueCollector(Collector):
    """Collects the backup metrics from the state's last catalogue."""

    def __init__(self, state: State) -> None:
        self._state = state

    def collect(self) -> Iterable[Metric]:
        families = _Families()
        now = self._state.wiring.clock()
        state = self._state
        for target in state.wiring.everything:
            history = state.history(target.name)
            # Before the main store was ever read, "no backup" would be a guess. An attempt that it did not take is known.
            if state.known:
                _database(families, state, history, now)
            elif history.attempts:
                _attempts(families, state, target.name, history)
        _service(families, state)
        yield from families.all()

    def describe(self) -> Iterable[Metric]:
        """Describe nothing: it is too early to read the catalogue at registration."""
        return ()


class _Families:
    """Metric families, created when first used."""

    def __init__(self) -> None:
        self._families: dict[str, Metric] = {}

    def gauge(self, name: str, text: str, value: float, **labels: str) -> None:
        family = self._families.setdefault(name, GaugeMetricFamily(name, text, labels=list(labels)))
        assert isinstance(family, GaugeMetricFamily)
        family.add_metric(list(labels.values()), value)

    def counter(self, name: str, text: str, value: float, **labels: str) -> None:
        family = self._families.setdefault(name, CounterMetricFamily(name, text, labels=list(labels)))
        assert isinstance(family, CounterMetricFamily)
        family.add_metric(list(labels.values()), value)

    def all(self) -> Iterator[Metric]:
        yield from self._families.values()
        yield InfoMetricFamily("backup_build", "Version of the backup sidecar", {"version": __version__})


def registry(state: State) -> CollectorRegistry:
    """A registry with the service's metrics."""
    made = CollectorRegistry()
    made.register(CatalogueCollector(state))
    return made


def _database(families: _Families, state: State, history: History, now: datetime) -> None:
    name = history.database
    _attempts(families, state, name, history)
    _latest(families, name, history.latest, now)
    _verifications(families, name, history)
    _rto(families, name, history)
    _stored(families, state, name, history)
    _strangers(families, history)
    _elsewhere(families, state, history, now)
    _drills(families, history)
    families.gauge(
        "backup_rto_target_seconds",
        "Target for the duration of a restore, in seconds (RTO)",
        state.wiring.settings.rto_target,
        database=name,
    )
    families.gauge(
        "backup_rpo_target_seconds",
        "Target for the age of the newest backup, in seconds (RPO)",
        state.wiring.settings.rpo_target,
        database=name,
    )


def _attempts(families: _Families, state: State, name: str, history: History) -> None:
    last = history.newest("backup", finished=True)
    running = state.running(history)
    # A run that was killed could not record its end.
    ended = state.died(history) or last
    attempted = ended.started.timestamp() if ended else 0.0
    success = ended is None or ended.outcome == "success"
    families.gauge(
        "backup_last_attempt_timestamp_seconds",
        "Start time of the last finished run (0 = never)",
        attempted,
        database=name,
    )
    families.gauge(
        "backup_last_attempt_success", "1 if the last finished run succeeded", float(success), database=name
    )
    families.gauge(
        "backup_in_progress",
        "1 while a run is in progress",
        float(running is not None or name in state.wiring.meters),
        database=name,
    )
    families.gauge(
        "backup_running_since_timestamp_seconds",
        "Start time of the run in progress (0 = none)",
        running.started.timestamp() if running else 0.0,
        database=name,
    )
    families.gauge(
        "backup_silent_seconds",
        "Seconds without a response from the database and the store of a run, or from the server of a verification (0 = none)",
        state.silence(name),
        database=name,
    )
    meter = state.wiring.meters.get(name)
    families.gauge(
        "backup_progress_bytes",
        "Uncompressed bytes that the run in progress has dumped (0 = no run)",
        meter.done if meter else 0,
        database=name,
    )
    families.gauge(
        "backup_progress_expected_bytes",
        "Uncompressed bytes of the backup before the run in progress (0 = no run, or no backup)",
        meter.expected if meter else 0,
        database=name,
    )
    proof = state.wiring.proving.get(name)
    families.gauge(
        "backup_verification_progress_bytes",
        "Bytes that the verification in progress has downloaded, restored and compared (0 = none)",
        proof.done if proof else 0,
        database=name,
    )
    families.gauge(
        "backup_verification_progress_expected_bytes",
        "Bytes at the end of the verification in progress (0 = none)",
        proof.expected if proof else 0,
        database=name,
    )
    _totals(families, "backup_runs", "Number of runs by outcome", name, last)
    _totals(
        families,
        "backup_verifications",
        "Number of verifications by outcome",
        name,
        history.newest("verification", finished=True),
    )


def _totals(families: _Families, metric: str, text: str, name: str, last: Attempt | None) -> None:
    totals: Mapping[str, int] = last.totals if last else {}
    for outcome in OUTCOMES:
        families.counter(metric, text, totals.get(outcome, 0), database=name, outcome=outcome)


def _latest(families: _Families, name: str, entry: Entry | None, now: datetime) -> None:
    manifest = entry.manifest if entry else None
    seconds = manifest.seconds if manifest else 0.0
    taken = manifest.taken.timestamp() if manifest else 0.0
    values = [
        (
            "backup_last_success_timestamp_seconds",
            "Time at which the newest backup was complete (0 = none)",
            manifest.finished.timestamp() if manifest else 0.0,
        ),
        # Without a backup, the age counts from the epoch, so that an alert fires.
        ("backup_age_seconds", "Age of the data in the newest backup", now.timestamp() - taken),
        (
            "backup_size_bytes",
            "Size of the newest backup in the store",
            manifest.stored_bytes if manifest else 0,
        ),
        ("backup_raw_bytes", "Uncompressed size of the newest backup", manifest.raw_bytes if manifest else 0),
        ("backup_rows", "Number of rows in the newest backup", manifest.rows if manifest else 0),
        (
            "backup_throughput_bytes_per_second",
            "Uncompressed bytes per second of the newest backup",
            manifest.raw_bytes / seconds if manifest and seconds else 0.0,
        ),
        (
            "backup_compression_ratio",
            "Compression ratio of the newest backup: uncompressed bytes per stored byte",
            manifest.raw_bytes / manifest.stored_bytes if manifest and manifest.stored_bytes else 0.0,
        ),
        (
            "backup_anomalous",
            "1 if the newest backup differs from its predecessors in size or rows",
            float(bool(manifest and manifest.anomalies)),
        ),
        (
            "backup_latest_verified",
            "1 if the newest backup is verified",
            float(bool(entry and entry.verified)),
        ),
    ]
    for metric, text, value in values:
        families.gauge(metric, text, value, database=name)
    stages = manifest.stages if manifest else {}
    for stage in STAGES:
        families.gauge(
            "backup_duration_seconds",
            "Duration of the newest backup by stage",
            stages.get(stage, 0.0),
            database=name,
            stage=stage,
        )
    families.gauge(
        "backup_duration_seconds",
        "Duration of the newest backup by stage",
        seconds,
        database=name,
        stage="total",
    )


def _verifications(families: _Families, name: str, history: History) -> None:
    report = history.last_report
    passed = [found for found in history.reports if found.ok]
    proven = history.last_verified
    stages = report.stages if report else {}
    for stage in VERIFY_STAGES:
        families.gauge(
            "backup_verification_duration_seconds",
            "Duration of the last verification by stage",
            stages.get(stage, 0.0),
            database=name,
            stage=stage,
        )
    unprovable = report is not None and bool(report.unprovable)
    if not unprovable:  # otherwise it is not known whether the backup can be restored
        families.gauge(
            "backup_last_verification_success",
            "1 if the last verification passed (also before the first one)",
            float(report is None or report.ok),
            database=name,
        )
    values = [
        (
            "backup_verification_unprovable",
            "1 if the last verification could not be carried out on this host",
            float(unprovable),
        ),
        (
            "backup_verification_differences",
            "Number of differences that the last verification found",
            len(report.differences) if report else 0,
        ),
        (
            "backup_last_verified_timestamp_seconds",
            "Time of the last verification that passed (0 = never)",
            passed[-1].finished.timestamp() if passed else 0.0,
        ),
        (
            "backup_last_verified_backup_timestamp_seconds",
            "Time at which the newest verified backup was taken (0 = none)",
            proven.manifest.taken.timestamp() if proven else 0.0,
        ),
    ]
    for metric, text, value in values:
        families.gauge(metric, text, value, database=name)


def _rto(families: _Families, name: str, history: History) -> None:
    passed = [report for report in history.reports if report.ok]
    measured = passed[-1].restore_seconds if passed else 0.0
    families.gauge(
        "backup_rto_seconds", "Duration of the last verified restore (0 = not known)", measured, database=name
    )
    families.gauge(
        "backup_rto_projected_seconds",
        "Duration of the last verified restore, scaled to the size of the newest backup (0 = not known)",
        projected_rto(history, passed),
        database=name,
    )


def _stored(families: _Families, state: State, name: str, history: History) -> None:
    decided = plan_for(state.wiring, history)
    tiers = Counter(tier for decision in decided.decisions for tier in set(decision.tiers))
    counts = {"total": len(history.backups), "verified": sum(entry.verified for entry in history.backups)}
    counts |= {tier: tiers.get(tier, 0) for tier in TIERS}
    families.gauge(
        "backup_oldest_timestamp_seconds",
        "Time at which the oldest backup was taken (0 = none)",
        history.backups[0].manifest.taken.timestamp() if history.backups else 0.0,
        database=name,
    )
    for tier, count in counts.items():
        families.gauge("backup_count", "Number of backups in the store", count, database=name, tier=tier)
    pruned = history.newest("prune", finished=True)
    for decision in ("keep", "delete", "refused"):
        families.gauge(
            "backup_prune_decisions",
            "Number of backups by decision of the last prune",
            pruned.decisions.get(decision, 0) if pruned else 0,
            database=name,
            decision=decision,
        )
    families.gauge(
        "backup_prune_blocked", "1 while pruning is blocked", float(bool(decided.blocked)), database=name
    )


def _strangers(families: _Families, history: History) -> None:
    counts = Counter(entry.state.lower() for entry in history.others)
    for reason in ("unsigned", "forged", "replayed"):
        families.gauge(
            "backup_untrusted",
            "Backups in the store that are ignored, by reason",
            counts.get(reason, 0),
            database=history.database,
            reason=reason,
        )
    families.gauge(
        "backup_clock_ahead_seconds",
        "How far the newest backup is dated ahead of this clock; 0 if it is not",
        history.seconds_ahead,
        database=history.database,
    )


def _elsewhere(families: _Families, state: State, history: History, now: datetime) -> None:
    enabled = state.wiring.offsite is not None
    lag = state.offsite.lag(history, now) if enabled else 0.0
    families.gauge(
        "backup_offsite_lag_seconds",
        "Age of the oldest backup without an off-site copy",
        lag,
        database=history.database,
    )


def _drills(families: _Families, history: History) -> None:
    last = history.newest("drill", finished=True)
    passed = [
        attempt for attempt in history.attempts if attempt.kind == "drill" and attempt.outcome == "success"
    ]
    measures = passed[-1].measures if passed else {}
    values = [
        (
            "backup_last_drill_timestamp_seconds",
            "Time of the last drill that passed (0 = never)",
            passed[-1].started.timestamp() if passed else 0.0,
        ),
        (
            "backup_last_drill_success",
            "1 if the last drill passed (also before the first one)",
            float(last is None or last.outcome == "success"),
        ),
        (
            "backup_drill_rto_seconds",
            "Recovery time of the last drill that passed, up to the promotion (0 = never)",
            measures.get("rto", 0.0),
        ),
        (
            "backup_drill_rpo_seconds",
            "Age of the data that the last drill restored, at its start (0 = never)",
            measures.get("rpo", 0.0),
        ),
    ]
    for metric, text, value in values:
        families.gauge(metric, text, value, database=history.database)


def _service(families: _Families, state: State) -> None:
    for store in state.wiring.stores:
        answered = state.problems.get(store.name) is None
        families.gauge(
            "backup_store_up", "1 if the store answered the last request", float(answered), store=store.name
        )
    if state.known:
        families.gauge(
            "backup_catalogue_refresh_timestamp_seconds",
            "Time at which the catalogue was last read from the store",
            state.catalogue.read.timestamp(),
        )
    families.gauge(
        "backup_offsite_enabled",
        "1 if an off-site store is configured",
        float(state.wiring.offsite is not None),
    )
    families.gauge(
        "backup_verify_confined",
        "1 if the kernel denies programs that handle restored content access to files and keys of this host",
        float(strength().confined),
    )
    if state.looked:
        _spool(families, state)
    _jobs(families, state)
    for (store_name, operation), count in _store_errors(state).items():
        families.counter(
            "backup_store_errors",
            "Number of store operations that failed",
            count,
            store=store_name,
            operation=operation,
        )


def _spool(families: _Families, state: State) -> None:
    waiting = [
        entry
        for target in state.wiring.everything
        for entry in state.history(target.name).backups
        if entry.store == "spool"
    ]
    stored = sum(entry.manifest.stored_bytes for entry in waiting)
    families.gauge("backup_spool_backups", "Number of backups in the spool", len(waiting))
    families.gauge("backup_spool_bytes", "Size of the backups in the spool", stored)


def _jobs(families: _Families, state: State) -> None:
    for job in state.jobs.values():
        next_run = job.next_run.timestamp() if job.next_run else 0.0
        last_run = job.last_run.timestamp() if job.last_run else 0.0
        families.gauge(
            "backup_schedule_next_run_timestamp_seconds",
            "Time of the next run of a schedule",
            next_run,
            job=job.name,
        )
        families.gauge(
            "backup_schedule_last_run_timestamp_seconds",
            "Time of the last run of a schedule in this process (0 = never)",
            last_run,
            job=job.name,
        )


def _store_errors(state: State) -> dict[tuple[str, str], int]:
    """Sums over the newest attempt of each database. The retries of an attempt in progress are added when it ends."""
    sums = {(store.name, operation): 0 for store in state.wiring.stores for operation in OPERATIONS}
    for target in state.wiring.everything:
        attempts = [attempt for attempt in state.history(target.name).attempts if attempt.finished]
        for key, count in (attempts[-1].store_errors if attempts else {}).items():
            store, _, operation = key.partition(":")
            # A record can contain any name, and must not create series.
            if (store, operation) in sums:
                sums[store, operation] += count
    return sums
