"""Backup & restore: could the database be brought back right now, how fast, and how is that known?"""

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
from dashboards.query import Query, increase, or_none, select
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
KEPT = words(_0=("Missed", BAD), _1=("Kept", GOOD))
VERDICT = words(_0=("Not proven", BAD), _1=("Proven", GOOD))
# A share of a promise: 1 is where the promise is broken.
OF_TARGET = Steps(GOOD, ((0.8, DOUBTFUL), (1.0, BAD)))

_number = partial(stat_panel, size=Size(3, 4))


def board() -> Board:
    """Return the Backup & restore dashboard."""
    return Board(
        uid="posthub-backup",
        title="PostHub / Backup & restore",
        description="Whether the last backup restores, how old it is, and how long a restore takes.",
        jobs="backup",
        choices=(DATABASE,),
        tags=("backup",),
        span="now-6h",
        rows=(_proof(), _promises(), _content(), _stages(), _retention(), _runs(), _stores()),
    )


def of_database(metric: str, *matchers: str) -> str:
    """Return a backup metric per chosen database."""
    return per_database(metric, OF_DATABASE, *matchers)


def per_database(metric: str, *matchers: str) -> str:
    """Return a backup metric per database."""
    return f"max by (database) ({select(metric, *matchers)})"


def targets_kept(*matchers: str) -> str:
    """Return 1 when the age of every database's newest backup and its restore are within what is promised.

    As the alerts have it: without a promise the age may be what the general threshold says, a restore anything.
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
                "Whether the newest backup was restored into a throwaway server and compared, with no difference found.",
                f"min({select('backup_latest_verified', OF_DATABASE)})",
                mappings=VERDICT,
            ),
            _number(
                "Last verification",
                "The result of the newest verification. Failed is BackupVerificationFailed: open the report.",
                f"min({select('backup_last_verification_success', OF_DATABASE)})",
                mappings=words(_0=("Failed", BAD), _1=("Held", GOOD)),
            ),
            _number(
                "Differences found",
                "Rows, digests and schema objects that differed between the restored copy and the archive.",
                f"max({select('backup_verification_differences', OF_DATABASE)})",
                steps=high_is_bad(critical=1),
            ),
            _number(
                "Targets",
                "Whether the newest backup is young enough and a restore fast enough for what is promised. "
                "Missed is BackupMissing or BackupRtoExceeded.",
                targets_kept(OF_DATABASE),
                mappings=KEPT,
            ),
            _number(
                "Backup age",
                "Age of the newest backup: what would be lost now. The graph below holds it against the target.",
                f"max({select('backup_age_seconds', OF_DATABASE)})",
                unit="s",
            ),
            _number(
                "Proven backup age",
                "Age of the newest backup that is known to restore.",
                f"time() - min({select('backup_last_verified_backup_timestamp_seconds', OF_DATABASE)})",
                unit="s",
                steps=high_is_bad(critical=limit("backup_verified_age:seconds")),
                mappings=never(),
            ),
            _number(
                "Restore takes",
                "Recovery time as the last verification measured it, not as anyone hopes.",
                f"max({select('backup_rto_seconds', OF_DATABASE)})",
                unit="s",
                mappings=UNKNOWN,
            ),
            _number(
                "Would take now",
                "The measured recovery time, projected to the present size of the database.",
                f"max({select('backup_rto_projected_seconds', OF_DATABASE)})",
                unit="s",
                mappings=UNKNOWN,
            ),
        ),
    )


def _promises() -> Row:
    return Row(
        "Do we keep what we promise?",
        (
            series_panel(
                "Age against the recovery point target",
                "Age of the newest backup as a share of the promised maximum. At 100 % the promise is broken.",
                Query(_share("backup_age_seconds", "backup_rpo_target_seconds"), "{{database}}"),
                unit="percentunit",
                limits=OF_TARGET,
            ),
            series_panel(
                "Restore time against its target",
                "Measured by the last restore, projected for the present size, and promised.",
                Query(of_database("backup_rto_seconds"), "{{database}} measured"),
                Query(of_database("backup_rto_projected_seconds"), "{{database}} projected"),
                Query(of_database("backup_rto_target_seconds"), "{{database}} target"),
                unit="s",
            ),
            timeline_panel(
                "Proven over time",
                "When the newest backup was proven. A short red band after each backup is its verification running.",
                _series("backup_latest_verified"),
                mappings=VERDICT,
            ),
            stat_panel(
                "Since last proof",
                "Time since a restore was last proven.",
                f"max({_ago('backup_last_verified_timestamp_seconds')})",
                unit="s",
                steps=high_is_bad(critical=limit("backup_verified_age:seconds")),
                mappings=never(),
                size=Size(4, 8),
            ),
            stat_panel(
                "Since last drill",
                "Time since people last practised a restore by the runbook.",
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
                "Rows counted in the very snapshot that was dumped. A fall that nobody expects is data loss.",
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
                "Seconds that each stage of the newest run took.",
                Query(by_stage, "{{database}} {{stage}}"),
                unit="s",
                size=Size(16, 8),
            ),
            bars_panel(
                "Stages of the newest run",
                "Which stage is the slow one.",
                Query(by_stage, "{{database}} {{stage}}"),
                unit="s",
            ),
        ),
    )


def _retention() -> Row:
    decided = f"max by (database, decision) ({select('backup_prune_decisions', OF_DATABASE)})"
    held = f"max by (database, tier) ({select('backup_count', OF_DATABASE)})"
    return Row(
        "What is kept?",
        (
            bars_panel(
                "Backups held",
                "How many backups each retention tier keeps, and how many of them are proven.",
                Query(held, "{{database}} {{tier}}"),
                size=MEDIUM,
            ),
            series_panel(
                "Backups held over time",
                "A falling line of proven backups means that pruning outruns proof.",
                Query(held, "{{database}} {{tier}}"),
                limits=low_is_bad(limit("backup_verified_count:min")),
                size=THIRD,
            ),
            bars_panel(
                "Prune decisions",
                "What the retention plan decided for the backups it saw last.",
                Query(decided, "{{database}} {{decision}}"),
                size=MEDIUM,
            ),
            stat_panel(
                "Pruning blocked",
                "Pruning stops by itself while backups are stale, failing or anomalous.",
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
        "Did it run, and when next?",
        (
            series_panel(
                "Backup runs in a day",
                "Runs finished in the day before each moment, by outcome: a daily schedule is a line at 1.",
                Query(runs, "{{database}} {{outcome}}"),
                size=THIRD,
            ),
            series_panel(
                "Verifications in a day",
                "Restores tried and compared in the day before each moment, by outcome.",
                Query(checks, "{{database}} {{outcome}}"),
                size=THIRD,
            ),
            table_panel(
                "Schedule",
                "When each job ran last and runs next.",
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
        "Do the stores answer?",
        (
            timeline_panel(
                "Store up",
                "Whether each store answered the last time it was asked.",
                Query(f"min by (store) ({select('backup_store_up')})", "{{store}}"),
                mappings=UP,
            ),
            series_panel(
                "Store errors",
                "Requests that a store refused or lost. The line named none means that there were none.",
                Query(or_none(errors, "store", select("backup_store_up")), "{{store}} {{operation}}"),
            ),
            series_panel(
                "Off-site lag",
                "How far the off-site copy is behind the newest backup. Needs an off-site store.",
                _series("backup_offsite_lag_seconds"),
                unit="s",
                limits=high_is_bad(limit("backup_offsite_lag:seconds")),
                size=THIRD,
            ),
            series_panel(
                "Spooled bytes",
                "Backups kept locally because the store did not answer.",
                Query(f"max({select('backup_spool_bytes')})", "spooled"),
                unit="bytes",
                size=THIRD,
            ),
            stat_panel(
                "Spooled backups",
                "Backups that wait to be sent to the store.",
                f"max({select('backup_spool_backups')})",
                steps=high_is_bad(1),
                size=Size(4, 8),
            ),
            stat_panel(
                "Catalogue age",
                "Time since the sidecar last read the bucket: every number on this page is as old as this.",
                f"time() - max({select('backup_catalogue_refresh_timestamp_seconds')})",
                unit="s",
                steps=high_is_bad(limit("backup_catalogue_age:seconds")),
                size=Size(4, 8),
            ),
        ),
    )
