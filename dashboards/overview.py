"""Overview: one screen that says whether all is well, each number leading to the page that says why."""

from functools import partial

from dashboards import api, backup, celery, host, monitoring, postgres
from dashboards.board import Board, Row
from dashboards.panels import Size, series_panel, stat_panel
from dashboards.query import Query, rate, select
from dashboards.style import UP, high_is_bad, low_is_bad, never
from dashboards.thresholds import limit

# Eight in a row and no higher than needed: the page is for one screen.
_number = partial(stat_panel, size=Size(3, 3))


def board() -> Board:
    """Return the Overview."""
    return Board(
        uid="posthub-overview",
        title="PostHub / Overview",
        description="Is everything well? Every number leads to the dashboard that explains it.",
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
                "Alerts that somebody must act on now.",
                monitoring.firing("critical"),
                steps=high_is_bad(critical=1),
                leads_to="posthub-monitoring",
            ),
            _number(
                "Warnings",
                "Alerts that somebody must look at today.",
                monitoring.firing("warning"),
                steps=high_is_bad(1),
                leads_to="posthub-monitoring",
            ),
            _number(
                "Seen from outside",
                "Whether the blackbox exporter gets an answer from the site, as a visitor would.",
                f"min({select('probe_success')})",
                mappings=UP,
                leads_to="posthub-api",
            ),
            _number(
                "Server errors",
                "Share of responses with a status of 500 or more, probes and scrapes left out.",
                api.error_ratio(),
                unit="percentunit",
                steps=api.ERRORS,
                leads_to="posthub-api",
            ),
            _number(
                "Error budget left",
                "What is left of the errors that 30 days may have.",
                api.budget_left(),
                unit="percentunit",
                steps=api.BUDGET_LEFT,
                decimals=1,
                leads_to="posthub-api",
            ),
            _number(
                "Slowest one in 20",
                "The duration that one request in twenty exceeds, probes and scrapes left out.",
                api.slowest(),
                unit="s",
                steps=high_is_bad(api.OBJECTIVE_SECONDS),
                leads_to="posthub-api",
            ),
            _number(
                "Slow budget left",
                "What is left of the requests slower than half a second that 30 days may have.",
                api.slow_budget_left(),
                unit="percentunit",
                steps=api.BUDGET_LEFT,
                decimals=1,
                leads_to="posthub-api",
            ),
            _number(
                "Targets down",
                "Targets that Prometheus cannot scrape: what this page cannot know.",
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
                "Workers whose heartbeats arrive.",
                f"sum({select('celery_worker_up')})",
                steps=low_is_bad(critical=1),
                leads_to="posthub-celery",
            ),
            _number(
                "Longest queue",
                "Messages in the longest queue. Orange is CeleryQueueBacklog.",
                f"max(sum by (queue_name) ({select('celery_queue_length')}))",
                steps=high_is_bad(limit("celery_queue_length:max")),
                leads_to="posthub-celery",
            ),
            _number(
                "Oldest message",
                "How long the head of the slowest queue has waited.",
                f"max({select('celery_queue_oldest_message_age_seconds')})",
                unit="s",
                steps=celery.AGE,
                leads_to="posthub-celery",
            ),
            _number(
                "Failed tasks",
                "Share of finished tasks that failed.",
                f"sum({rate('celery_tasks_total', celery.FAILED)})"
                f" / clamp_min(sum({rate('celery_tasks_total', celery.DONE)}), 1e-9)",
                unit="percentunit",
                steps=celery.RATIO,
                leads_to="posthub-celery",
            ),
            _number(
                "Beat",
                "Whether scheduled tasks are sent.",
                f"min({select('celery_beat_up')})",
                mappings=UP,
                leads_to="posthub-celery",
            ),
            _number(
                "Load per CPU",
                "Tasks that run or want to, for each processor. Orange is HostCpuSaturated.",
                f"max({host.load_per_cpu()})",
                unit="none",
                steps=host.LOAD,
                leads_to="posthub-host",
            ),
            _number(
                "Memory in use",
                "Share of the machine's memory that is really taken.",
                host.memory_used(),
                unit="percentunit",
                steps=host.MEMORY,
                leads_to="posthub-host",
            ),
            _number(
                "Fullest disk",
                "The fullest filesystem of the machine.",
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
                "Whether the newest backup was restored and compared.",
                f"min({select('backup_latest_verified')})",
                mappings=backup.VERDICT,
                leads_to="posthub-backup",
            ),
            _number(
                "Backup targets",
                "Whether the newest backup is young enough and a restore fast enough for what is promised.",
                backup.targets_kept(),
                mappings=backup.KEPT,
                leads_to="posthub-backup",
            ),
            _number(
                "Backup age",
                "What would be lost if the database died now.",
                f"max({select('backup_age_seconds')})",
                unit="s",
                leads_to="posthub-backup",
            ),
            _number(
                "Proven backup age",
                "What would be lost at worst: the age of the newest backup that is known to restore.",
                f"time() - min({select('backup_last_verified_backup_timestamp_seconds')})",
                unit="s",
                steps=high_is_bad(critical=limit("backup_verified_age:seconds")),
                mappings=never(),
                leads_to="posthub-backup",
            ),
            _number(
                "Restore takes",
                "Recovery time, measured by the last verification.",
                f"max({select('backup_rto_seconds')})",
                unit="s",
                mappings=backup.UNKNOWN,
                leads_to="posthub-backup",
            ),
            _number(
                "PostgreSQL",
                "Whether the database answers.",
                f"min({select('pg_up')})",
                mappings=UP,
                leads_to="posthub-postgres",
            ),
            _number(
                "DB connections",
                "Share of PostgreSQL's connections that is taken.",
                postgres.connections_used(),
                unit="percentunit",
                steps=postgres.CONNECTIONS,
                leads_to="posthub-postgres",
            ),
            _number(
                "Redis",
                "Whether the broker answers.",
                f"min({select('redis_up')})",
                mappings=UP,
                leads_to="posthub-redis",
            ),
        ),
    )


def _time() -> Row:
    size = Size(8, 6)
    return Row(
        "Since when?",
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
                "Messages waiting per queue. The dashed line is CeleryQueueBacklog.",
                Query(f"sum by (queue_name) ({select('celery_queue_length')})", "{{queue_name}}"),
                limits=high_is_bad(limit("celery_queue_length:max")),
                size=size,
            ),
            monitoring.firing_table(size),
        ),
    )
