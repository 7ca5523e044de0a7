"""Backup & restore: verification, targets, retention, schedules and stores."""

from functools import partial

from dashboards.board import Board, Row
from dashboards.panels import (
    MEDIUM,
    THIRD,
    Column,
    Size,
    bars_panel,
    series_panel,
    stat_panel,
    table_panel,
    timeline_panel,
)
from dashboards.query import Query, increase, or_none, rate, select
from dashboards.style import (
    BAD,
    DOUBTFUL,
    GOOD,
    NEUTRAL,
    UP,
    YES_BAD,
    Steps,
    high_is_bad,
    low_is_bad,
    never,
    words,
)
from dashboards.thresholds import limit
from dashboards.variables import DATABASE

OF_DATABASE = 'database=~"$database"'
# The job of a schedule. Prometheus keeps its own label `job`, so the sidecar's arrives as `exported_job`,
# or as `job_name` where a scrape configuration renames it.
SCHEDULED = "schedule"
UNKNOWN = words(_0=("Unknown", DOUBTFUL))
KEPT = words(_0=("Missed", BAD), _1=("Met", GOOD))
VERDICT = words(_0=("Not verified", BAD), _1=("Verified", GOOD))
# Share of a target: above 1 the target is missed.
OF_TARGET = Steps(GOOD, ((0.8, DOUBTFUL), (1.0, BAD)))

_number = partial(stat_panel, size=Size(3, 4))


def board() -> Board:
    """Return the Backup & restore dashboard."""
    return Board(
        uid="posthub-backup",
        title="PostHub / Backup & restore",
        description="Whether the newest backup restores, how old it is, and how long a restore takes.",
        jobs="backup(_wal)?",
        choices=(DATABASE,),
        tags=("backup",),
        span="now-6h",
        rows=(_proof(), _promises(), _loss(), _content(), _stages(), _retention(), _runs(), _stores()),
    )


def of_database(metric: str, *matchers: str) -> str:
    """Return a backup metric by selected database."""
    return per_database(metric, OF_DATABASE, *matchers)


def per_database(metric: str, *matchers: str) -> str:
    """Return a backup metric by database."""
    return f"max by (database) ({select(metric, *matchers)})"


def targets_kept(*matchers: str) -> str:
    """Return 1 if backup age and restore time of every database are within their targets, else 0.

    As in the alerts, the age has a general threshold where no target is set; the restore time has none.
    """
    age, rpo, rto, target = (
        per_database(f"backup_{what}_seconds", *matchers)
        for what in ("age", "rpo_target", "rto", "rto_target")
    )
    most = f"({rpo} > 0 or {age} * 0 + {limit('backup_age:seconds'):g})"
    return f"min({age} <= bool {most}) * (min({rto} <= bool ({target} > 0)) or min({age} > bool -1))"


def _ago(metric: str) -> str:
    return f"time() - {of_database(metric)}"


def _series(metric: str) -> Query:
    return Query(of_database(metric), "{{database}}")


def _proof() -> Row:
    return Row(
        "Can we restore?",
        (
            _number(
                "Latest backup",
                "Whether the newest backup was restored into a throwaway server and compared without differences.",
                f"min({select('backup_latest_verified', OF_DATABASE)})",
                mappings=VERDICT,
            ),
            _number(
                "Last verification",
                "The result of the newest verification. Failed is BackupVerificationFailed: open the report.",
                f"min({select('backup_last_verification_success', OF_DATABASE)})",
                mappings=words(_0=("Failed", BAD), _1=("Passed", GOOD)),
            ),
            _number(
                "Differences found",
                "Rows, digests and schema objects that differed between the restored copy and the archive.",
                f"max({select('backup_verification_differences', OF_DATABASE)})",
                steps=high_is_bad(critical=1),
            ),
            _number(
                "Targets",
                "Whether the age of the newest backup and the restore time are within their targets. "
                "Missed is BackupMissing or BackupRtoExceeded.",
                targets_kept(OF_DATABASE),
                mappings=KEPT,
            ),
            _number(
                "Backup age",
                "Age of the newest backup: what would be lost now. The graph below compares it with the target.",
                f"max({select('backup_age_seconds', OF_DATABASE)})",
                unit="s",
            ),
            _number(
                "Verified backup age",
                "Age of the newest verified backup.",
                f"time() - min({select('backup_last_verified_backup_timestamp_seconds', OF_DATABASE)})",
                unit="s",
                steps=high_is_bad(critical=limit("backup_verified_age:seconds")),
                mappings=never(),
            ),
            _number(
                "Restore time",
                "Duration of the restore in the last verification.",
                f"max({select('backup_rto_seconds', OF_DATABASE)})",
                unit="s",
                mappings=UNKNOWN,
            ),
            _number(
                "Projected restore",
                "The measured restore time, projected to the current size of the database.",
                f"max({select('backup_rto_projected_seconds', OF_DATABASE)})",
                unit="s",
                mappings=UNKNOWN,
            ),
        ),
    )


def _promises() -> Row:
    return Row(
        "Are the targets met?",
        (
            series_panel(
                "Age against the recovery point target",
                "Age of the newest backup as a share of its target. Above 100% the target is missed.",
                Query(_share("backup_age_seconds", "backup_rpo_target_seconds"), "{{database}}"),
                unit="percentunit",
                limits=OF_TARGET,
            ),
            series_panel(
                "Restore time against its target",
                "Restore time measured by the last verification, projected to the current size, and its target.",
                Query(of_database("backup_rto_seconds"), "{{database}} measured"),
                Query(of_database("backup_rto_projected_seconds"), "{{database}} projected"),
                Query(of_database("backup_rto_target_seconds"), "{{database}} target"),
                unit="s",
            ),
            timeline_panel(
                "Verified over time",
                "Whether the newest backup was verified. A short red band after each backup is normal: its verification is in progress.",
                _series("backup_latest_verified"),
                mappings=VERDICT,
            ),
            stat_panel(
                "Last verified ago",
                "Time since a verification last passed.",
                f"max({_ago('backup_last_verified_timestamp_seconds')})",
                unit="s",
                steps=high_is_bad(critical=limit("backup_verified_age:seconds")),
                mappings=never(),
                size=Size(4, 8),
            ),
            stat_panel(
                "Last drill ago",
                "Time since a restore drill last passed.",
                f"max({_ago('backup_last_drill_timestamp_seconds')})",
                unit="s",
                steps=high_is_bad(limit("backup_drill_age:seconds")),
                mappings=never(color=DOUBTFUL),
                size=Size(4, 8),
            ),
            stat_panel(
                "Anomalous",
                "Whether the newest backup differs so much from its predecessors that pruning has stopped.",
                f"max({select('backup_anomalous', OF_DATABASE)})",
                mappings=YES_BAD,
                size=Size(4, 8),
            ),
        ),
    )


def _loss() -> Row:
    """The WAL stream, if one is set up (docs/pitr.md)."""
    return Row(
        "What could be lost now?",
        (
            _number(
                "Not stored",
                "Age of the oldest WAL that is not stored: what would be lost with the host.",
                f"max({select('backup_wal_unstored_seconds')})",
                unit="s",
                steps=high_is_bad(critical=limit("wal_heartbeat_age:seconds")),
            ),
            _number(
                "Heartbeat stored ago",
                "Time since the newest stored heartbeat was written; one is written every 30 s. Red is WalArchiveStopped.",
                f"time() - min({select('backup_wal_last_heartbeat_stored_timestamp_seconds')})",
                unit="s",
                steps=high_is_bad(critical=limit("wal_heartbeat_age:seconds")),
            ),
            _number(
                "Slot limit left",
                "Share of its limit that the slot may still keep before WAL is lost. Red is WalSlotRunsOut.",
                f"min({_of_server('backup_wal_slot_safe_bytes')} / {_of_server('backup_wal_slot_cap_bytes')})",
                unit="percentunit",
                steps=low_is_bad(limit("wal_slot_safe:ratio")),
            ),
            _number(
                "Base backup age",
                "Age of the newest base backup: a recovery replays all WAL since then. Red is BaseOverdue.",
                f"time() - min({select('backup_wal_base_timestamp_seconds')})",
                unit="s",
                steps=high_is_bad(critical=limit("wal_base_age:seconds")),
            ),
            _number(
                "Proven base age",
                "Age of the newest base backup that was recovered with its WAL. Red is PitrUnproven.",
                f"time() - min({select('backup_wal_base_proven_timestamp_seconds')})",
                unit="s",
                steps=high_is_bad(critical=limit("wal_proven_age:seconds")),
            ),
            _number(
                "Recoverable",
                "Length of the newest period that can be recovered without a gap.",
                f"min({_of_server('backup_pitr_latest_timestamp_seconds')}"
                f" - {_of_server('backup_pitr_earliest_timestamp_seconds')})",
                unit="s",
            ),
            _number(
                "Proven loss",
                "What would have been lost with the host at the time of the newest proof.",
                f"max({select('backup_pitr_rpo_seconds')})",
                unit="s",
            ),
            _number(
                "Proven recovery",
                "Time that the newest proof took from the store to a server that answers.",
                f"max({select('backup_pitr_rto_seconds')})",
                unit="s",
            ),
            series_panel(
                "WAL that is not stored",
                "Age of the oldest WAL that is not stored, by server.",
                Query(_of_server("backup_wal_unstored_seconds"), "{{server}}"),
                unit="s",
                limits=high_is_bad(critical=limit("wal_heartbeat_age:seconds")),
                size=THIRD,
            ),
            series_panel(
                "WAL kept by the server",
                "WAL that the server keeps until it is stored, and its limit.",
                Query(_of_server("backup_wal_slot_retained_bytes"), "{{server}} kept"),
                Query(_of_server("backup_wal_slot_cap_bytes"), "{{server}} limit"),
                unit="bytes",
                size=THIRD,
            ),
            series_panel(
                "WAL throughput",
                "WAL that the server has written, and its stored size after compression and encryption.",
                Query(f"sum by (server) ({rate('backup_wal_received_bytes_total')})", "{{server}} received"),
                Query(f"sum by (server) ({rate('backup_wal_stored_bytes_total')})", "{{server}} stored"),
                unit="Bps",
                size=THIRD,
            ),
        ),
    )


def _of_server(metric: str) -> str:
    return f"max by (server) ({select(metric)})"


def _share(metric: str, target: str) -> str:
    return f"{of_database(metric)} / {of_database(target)}"


def _content() -> Row:
    return Row(
        "What is in a backup?",
        (
            series_panel(
                "Size",
                "Bytes read from the database and bytes stored after compression and encryption.",
                Query(of_database("backup_raw_bytes"), "{{database}} read"),
                Query(of_database("backup_size_bytes"), "{{database}} stored"),
                unit="bytes",
            ),
            series_panel(
                "Rows",
                "Rows counted in the snapshot that was dumped. An unexpected fall is data loss.",
                _series("backup_rows"),
            ),
            series_panel(
                "Compression",
                "Bytes read per byte stored.",
                _series("backup_compression_ratio"),
                unit="none",
            ),
            series_panel(
                "Speed",
                "Bytes read from the database per second of backup.",
                _series("backup_throughput_bytes_per_second"),
                unit="Bps",
            ),
        ),
    )


def _stages() -> Row:
    by_stage = f"max by (database, stage) ({select('backup_duration_seconds', OF_DATABASE)})"
    return Row(
        "Where does the time go?",
        (
            series_panel(
                "Stages over time",
                "Duration of each stage of the newest run.",
                Query(by_stage, "{{database}} {{stage}}"),
                unit="s",
                size=Size(16, 8),
            ),
            bars_panel(
                "Stages of the newest run",
                "Duration of each stage of the newest run.",
                Query(by_stage, "{{database}} {{stage}}"),
                unit="s",
            ),
        ),
    )


def _retention() -> Row:
    decided = f"max by (database, decision) ({select('backup_prune_decisions', OF_DATABASE)})"
    kept = f"max by (database, tier) ({select('backup_count', OF_DATABASE)})"
    return Row(
        "What does retention keep?",
        (
            bars_panel(
                "Backups kept",
                "Number of backups that each retention tier keeps, and number of verified ones.",
                Query(kept, "{{database}} {{tier}}"),
                size=MEDIUM,
            ),
            series_panel(
                "Backups kept over time",
                "A falling number of verified backups means that pruning is faster than verification.",
                Query(kept, "{{database}} {{tier}}"),
                limits=low_is_bad(limit("backup_verified_count:min")),
                size=THIRD,
            ),
            bars_panel(
                "Prune decisions",
                "Decisions of the last retention plan.",
                Query(decided, "{{database}} {{decision}}"),
                size=MEDIUM,
            ),
            stat_panel(
                "Pruning blocked",
                "Pruning stops while backups are stale, failing or anomalous.",
                f"max({select('backup_prune_blocked', OF_DATABASE)})",
                mappings=YES_BAD,
                size=Size(4, 8),
            ),
        ),
    )


def _runs() -> Row:
    runs = f"sum by (database, outcome) ({increase('backup_runs_total', OF_DATABASE, over='1d')})"
    checks = f"sum by (database, outcome) ({increase('backup_verifications_total', OF_DATABASE, over='1d')})"
    return Row(
        "Do backups and verifications run?",
        (
            series_panel(
                "Backup runs in a day",
                "Finished runs in the preceding day, by outcome. A daily schedule gives 1.",
                Query(runs, "{{database}} {{outcome}}"),
                size=THIRD,
            ),
            series_panel(
                "Verifications in a day",
                "Finished verifications in the preceding day, by outcome.",
                Query(checks, "{{database}} {{outcome}}"),
                size=THIRD,
            ),
            table_panel(
                "Schedule",
                "Last and next run of each job.",
                {SCHEDULED: "Job"},
                {
                    "last": (
                        _by_job("backup_schedule_last_run_timestamp_seconds", "time() - {}"),
                        Column("Ran ago", "s", mappings=never("Never", NEUTRAL)),
                    ),
                    "next": (
                        _by_job("backup_schedule_next_run_timestamp_seconds", "{} - time()"),
                        Column("Runs in", "s"),
                    ),
                },
                size=THIRD,
            ),
        ),
    )


def _by_job(metric: str, how: str) -> str:
    named = select(metric)
    for label in ("exported_job", "job_name"):
        named = f'label_replace({named}, "{SCHEDULED}", "$1", "{label}", "(.+)")'
    return how.format(f"max by ({SCHEDULED}) ({named})")


def _stores() -> Row:
    errors = f"sum by (store, operation) ({increase('backup_store_errors_total')}) > 0"
    return Row(
        "Do the stores respond?",
        (
            timeline_panel(
                "Store up",
                "Whether the last request to each store succeeded.",
                Query(f"min by (store) ({select('backup_store_up')})", "{{store}}"),
                mappings=UP,
            ),
            series_panel(
                "Store errors",
                "Failed requests to each store. The series “none” is zero while there are none.",
                Query(or_none(errors, "store", select("backup_store_up")), "{{store}} {{operation}}"),
            ),
            series_panel(
                "Off-site lag",
                "Delay of the off-site copy behind the newest backup, if an off-site store is configured.",
                _series("backup_offsite_lag_seconds"),
                unit="s",
                limits=high_is_bad(limit("backup_offsite_lag:seconds")),
                size=THIRD,
            ),
            series_panel(
                "Spooled bytes",
                "Size of the backups on local disk that wait for the store.",
                Query(f"max({select('backup_spool_bytes')})", "spooled"),
                unit="bytes",
                size=THIRD,
            ),
            stat_panel(
                "Spooled backups",
                "Number of backups on local disk that wait for the store.",
                f"max({select('backup_spool_backups')})",
                steps=high_is_bad(1),
                size=Size(4, 8),
            ),
            stat_panel(
                "Catalogue age",
                "Time since the backup service last read the store. All values on this dashboard are that old.",
                f"time() - max({select('backup_catalogue_refresh_timestamp_seconds')})",
                unit="s",
                steps=high_is_bad(limit("backup_catalogue_age:seconds")),
                size=Size(4, 8),
            ),
        ),
    )
