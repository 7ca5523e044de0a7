"""Overview: one screen with the state of everything; each number links to the dashboard that explains it."""

from functools import partial

from dashboards import once
from dashboards.board import Board, Row
from dashboards.boards import api, backup, celery, host, monitoring, postgres
from dashboards.panels import Size, series_panel, stat_panel
from dashboards.query import Query, rate, select
from dashboards.style import UP, high_is_bad, low_is_bad, never
from dashboards.thresholds import limit

# Eight per row and low enough that the whole dashboard fits on one screen.
_number = partial(stat_panel, size=Size(3, 3))


def board() -> Board:
    """Return the Overview."""
    return Board(
        uid="posthub-overview",
        title="PostHub / Overview",
        description="The state of everything on one screen. Each number links to the dashboard that explains it.",
        jobs=".+",
        tags=("overview",),
        hide_scope=True,
        rows=(_users(), _work(), _data(), _time()),
    )


def _users() -> Row:
    return Row(
        "Users",
        (
            _number(
                "Critical alerts",
                "Firing alerts that need action now.",
                monitoring.firing("critical"),
                steps=high_is_bad(critical=1),
                leads_to="posthub-monitoring",
            ),
            _number(
                "Warnings",
                "Firing alerts that need attention today.",
                monitoring.firing("warning"),
                steps=high_is_bad(1),
                leads_to="posthub-monitoring",
            ),
            _number(
                "External probe",
                "Whether the blackbox exporter gets a valid response from the site.",
                f"min({select('probe_success')})",
                mappings=UP,
                leads_to="posthub-api",
            ),
            _number(
                "Server errors",
                "Share of responses with a 5xx status, without probes and scrapes.",
                api.error_ratio(),
                no_value="No traffic",
                unit="percentunit",
                steps=api.ERRORS,
                leads_to="posthub-api",
            ),
            _number(
                "Error budget left",
                "Remaining share of the errors that the objective allows in 30 days.",
                api.budget_left(),
                no_value="No traffic",
                unit="percentunit",
                steps=api.BUDGET_LEFT,
                decimals=1,
                leads_to="posthub-api",
            ),
            _number(
                "P95 response time",
                "95th percentile of request durations, without probes and scrapes.",
                api.slowest(),
                no_value="No traffic",
                unit="s",
                steps=high_is_bad(api.OBJECTIVE_SECONDS),
                leads_to="posthub-api",
            ),
            _number(
                "Latency budget left",
                "Remaining share of the requests slower than 0.5 s that the objective allows in 30 days.",
                api.slow_budget_left(),
                no_value="No traffic",
                unit="percentunit",
                steps=api.BUDGET_LEFT,
                decimals=1,
                leads_to="posthub-api",
            ),
            _number(
                "Targets down",
                "Targets that Prometheus cannot scrape. Their values are missing here.",
                f"count({select('up')} == 0) or 0 * count({select('up')})",
                steps=high_is_bad(critical=1),
                leads_to="posthub-monitoring",
            ),
        ),
    )


def _work() -> Row:
    return Row(
        "Background work",
        (
            _number(
                "Workers up",
                "Workers that send heartbeats.",
                f"sum({once.select('celery_worker_up')})",
                steps=low_is_bad(critical=1),
                leads_to="posthub-celery",
            ),
            _number(
                "Longest queue",
                "Messages in the longest queue. Orange is CeleryQueueBacklog.",
                f"max(sum by (queue_name) ({once.select('celery_queue_length')}))",
                steps=high_is_bad(limit("celery_queue_length:max")),
                leads_to="posthub-celery",
            ),
            _number(
                "Oldest message",
                "Longest time that a message has waited in a queue.",
                f"max({once.select('celery_queue_oldest_message_age_seconds')})",
                unit="s",
                steps=celery.AGE,
                leads_to="posthub-celery",
            ),
            _number(
                "Failed tasks",
                "Share of finished tasks that failed.",
                f"sum({once.rate('celery_tasks_total', celery.FAILED)})"
                f" / clamp_min(sum({once.rate('celery_tasks_total', celery.DONE)}), 1e-9)",
                unit="percentunit",
                steps=celery.RATIO,
                leads_to="posthub-celery",
            ),
            _number(
                "Beat",
                "Whether beat sends scheduled tasks.",
                f"min({once.select('celery_beat_up')})",
                mappings=UP,
                leads_to="posthub-celery",
            ),
            _number(
                "Load per CPU",
                "Processes that run or wait to run, per CPU. Orange is HostCpuSaturated.",
                f"max({host.load_per_cpu()})",
                unit="none",
                steps=host.LOAD,
                leads_to="posthub-host",
            ),
            _number(
                "Memory in use",
                "Share of the machine's memory that is not available.",
                host.memory_used(),
                unit="percentunit",
                steps=host.MEMORY,
                leads_to="posthub-host",
            ),
            _number(
                "Fullest disk",
                "Used share of the fullest filesystem.",
                f"max({host.disk_used()})",
                unit="percentunit",
                steps=host.DISK,
                leads_to="posthub-host",
            ),
        ),
    )


def _data() -> Row:
    return Row(
        "Data",
        (
            _number(
                "Last backup",
                "Whether the newest backup was restored and compared without differences.",
                f"min({select('backup_latest_verified')})",
                mappings=backup.VERDICT,
                leads_to="posthub-backup",
            ),
            _number(
                "Backup targets",
                "Whether the age of the newest backup and the restore time are within their targets.",
                backup.targets_kept(),
                mappings=backup.KEPT,
                leads_to="posthub-backup",
            ),
            _number(
                "Backup age",
                "Age of the newest backup: what would be lost if the database were lost now.",
                f"max({select('backup_age_seconds')})",
                unit="s",
                leads_to="posthub-backup",
            ),
            _number(
                "Verified backup age",
                "Age of the newest backup that is known to restore.",
                f"time() - min({select('backup_last_verified_backup_timestamp_seconds')})",
                unit="s",
                steps=high_is_bad(critical=limit("backup_verified_age:seconds")),
                mappings=never(),
                leads_to="posthub-backup",
            ),
            _number(
                "Restore time",
                "Duration of the restore in the last verification.",
                f"max({select('backup_rto_seconds')})",
                unit="s",
                mappings=backup.UNKNOWN,
                leads_to="posthub-backup",
            ),
            _number(
                "PostgreSQL",
                "Whether the database can be queried.",
                f"min({select('pg_up')})",
                mappings=UP,
                leads_to="posthub-postgres",
            ),
            _number(
                "DB connections",
                "Used share of PostgreSQL's connections.",
                postgres.connections_used(),
                unit="percentunit",
                steps=postgres.CONNECTIONS,
                leads_to="posthub-postgres",
            ),
            _number(
                "Redis",
                "Whether the broker can be reached.",
                f"min({select('redis_up')})",
                mappings=UP,
                leads_to="posthub-redis",
            ),
        ),
    )


def _time() -> Row:
    size = Size(8, 6)
    return Row(
        "Over time",
        (
            series_panel(
                "Requests",
                "Responses per second by status.",
                Query(f"sum by (status) ({rate(api.RESPONSES)})", "{{status}}"),
                unit="reqps",
                stacked=True,
                size=size,
            ),
            series_panel(
                "Queue length",
                "Messages waiting in each queue. The dashed line is CeleryQueueBacklog.",
                Query(f"sum by (queue_name) ({once.select('celery_queue_length')})", "{{queue_name}}"),
                limits=high_is_bad(limit("celery_queue_length:max")),
                size=size,
            ),
            monitoring.firing_table(size),
        ),
    )
