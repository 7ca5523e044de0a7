"""Overview: one screen that says whether all is well, each number leading to the page that says why."""

from dashboards import api, celery, host, monitoring, postgres
from dashboards.board import Board, Row
from dashboards.panels import Size, series_panel, stat_panel
from dashboards.query import Query, rate, select
from dashboards.style import BAD, DOUBTFUL, GOOD, UP, high_is_bad, low_is_bad, words
from dashboards.thresholds import limit


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
            stat_panel(
                "Critical alerts",
                "Alerts that somebody must act on now.",
                monitoring.firing("critical"),
                steps=high_is_bad(critical=1),
                leads_to="posthub-monitoring",
            ),
            stat_panel(
                "Warnings",
                "Alerts that somebody must look at today.",
                monitoring.firing("warning"),
                steps=high_is_bad(1),
                leads_to="posthub-monitoring",
            ),
            stat_panel(
                "Server errors",
                "Share of responses with a status of 500 or more, probes and scrapes left out.",
                api.error_ratio(),
                unit="percentunit",
                steps=api.ERRORS,
                leads_to="posthub-api",
            ),
            stat_panel(
                "Error budget left",
                "What is left of the errors that 30 days may have.",
                api.budget_left(),
                unit="percentunit",
                steps=api.BUDGET_LEFT,
                decimals=1,
                leads_to="posthub-api",
            ),
            stat_panel(
                "Slowest one in 20",
                "The duration that one request in twenty exceeds, probes and scrapes left out.",
                api.slowest(),
                unit="s",
                steps=high_is_bad(api.OBJECTIVE_SECONDS),
                leads_to="posthub-api",
            ),
            stat_panel(
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
            stat_panel(
                "Workers up",
                "Workers whose heartbeats arrive.",
                f"sum({select('celery_worker_up')})",
                steps=low_is_bad(critical=1),
                leads_to="posthub-celery",
            ),
            stat_panel(
                "Tasks waiting",
                "Messages in all queues.",
                f"sum({select('celery_queue_length')})",
                steps=high_is_bad(limit("celery_queue_length:max")),
                leads_to="posthub-celery",
            ),
            stat_panel(
                "Oldest message",
                "How long the head of the slowest queue has waited.",
                f"max({select('celery_queue_oldest_message_age_seconds')})",
                unit="s",
                steps=celery.AGE,
                leads_to="posthub-celery",
            ),
            stat_panel(
                "Failed tasks",
                "Share of finished tasks that failed.",
                f"sum({rate('celery_tasks_total', celery.FAILED)})"
                f" / clamp_min(sum({rate('celery_tasks_total', celery.DONE)}), 1e-9)",
                unit="percentunit",
                steps=celery.RATIO,
                leads_to="posthub-celery",
            ),
            stat_panel(
                "Beat",
                "Whether scheduled tasks are sent.",
                f"min({select('celery_beat_up')})",
                mappings=UP,
                leads_to="posthub-celery",
            ),
            stat_panel(
                "CPU in use",
                "Share of the machine's processor time in use.",
                host.cpu_used(),
                unit="percentunit",
                steps=high_is_bad(0.8, 0.95),
                leads_to="posthub-host",
            ),
        ),
    )


def _data() -> Row:
    fullest = f"max({host.disk_used()})"
    return Row(
        "Data",
        (
            stat_panel(
                "Last backup",
                "Whether the newest backup was restored and compared.",
                f"min({select('backup_latest_verified')})",
                mappings=words(_0=("Not proven", BAD), _1=("Proven", GOOD)),
                leads_to="posthub-backup",
            ),
            stat_panel(
                "Backup age",
                "What would be lost if the database died now.",
                f"max({select('backup_age_seconds')})",
                unit="s",
                steps=high_is_bad(critical=limit("backup_age:seconds")),
                leads_to="posthub-backup",
            ),
            stat_panel(
                "Restore takes",
                "Recovery time, measured by the last verification.",
                f"max({select('backup_rto_seconds')})",
                unit="s",
                mappings=words(_0=("Unknown", DOUBTFUL)),
                leads_to="posthub-backup",
            ),
            stat_panel(
                "DB connections",
                "Share of PostgreSQL's connections that is taken.",
                postgres.connections_used(),
                unit="percentunit",
                steps=postgres.CONNECTIONS,
                leads_to="posthub-postgres",
            ),
            stat_panel(
                "Redis",
                "Whether the broker answers.",
                f"min({select('redis_up')})",
                mappings=UP,
                leads_to="posthub-redis",
            ),
            stat_panel(
                "Fullest disk",
                "The fullest filesystem of the machine.",
                fullest,
                unit="percentunit",
                steps=host.DISK,
                leads_to="posthub-host",
            ),
        ),
    )


def _time() -> Row:
    size = Size(8, 7)
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
