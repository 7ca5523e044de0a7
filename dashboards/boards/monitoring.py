"""Monitoring itself: targets, alerting, Prometheus and the exporters."""

from grafana_foundation_sdk.models.dashboard import Panel

from dashboards.board import Board, Row
from dashboards.panels import (
    THIRD,
    Column,
    Size,
    alert_list_panel,
    bars_panel,
    series_panel,
    stat_panel,
    table_panel,
    timeline_panel,
)
from dashboards.query import Query, increase, or_none, rate, recorded, select
from dashboards.style import BAD, GOOD, SEVERITY_COLORS, UP, YES_GOOD, high_is_bad, low_is_bad, words
from dashboards.thresholds import limit

FIRING = 'alertstate="firing"'
QUANTILE = 'quantile="0.9"'
NOT_WATCHDOG = 'alertname!="Watchdog"'


def board() -> Board:
    """Return the Monitoring dashboard."""
    return Board(
        uid="posthub-monitoring",
        title="PostHub / Monitoring itself",
        description="Targets, Prometheus, Alertmanager and the exporters: whether the absence of alerts can be trusted.",
        jobs=".+",
        tags=("monitoring",),
        rows=(_health(), _alerts(), _targets(), _prometheus(), _exporter(), _logs(), _processes()),
    )


def firing(severity: str) -> str:
    """Return the number of firing alerts of a severity; 0 only while Watchdog shows that rules run."""
    chosen = recorded("ALERTS", FIRING, NOT_WATCHDOG, f'severity="{severity}"')
    return f"count({chosen}) or 0 * count({watchdog()})"


def watchdog() -> str:
    """Return the selector of Watchdog, which always fires."""
    return recorded("ALERTS", FIRING, 'alertname="Watchdog"')


def firing_table(size: Size) -> Panel:
    """Return the table of firing alerts, including Watchdog."""
    labels = {"alertname": "Alert", "severity": "Severity", "component": "Component"}
    count = f"count by ({', '.join(labels)}) ({recorded('ALERTS', FIRING)})"
    return table_panel(
        "Alerts firing",
        "Alerts that fire now. Watchdog always fires: without it, alerting is broken.",
        labels,
        {"count": (count, Column("Firing"))},
        sort="Severity",
        descending=False,
        size=size,
    )


def _health() -> Row:
    return Row(
        "Does alerting work?",
        (
            stat_panel(
                "Watchdog",
                "An alert that always fires. If it is missing, no alert can reach anyone.",
                f"count({watchdog()}) > bool 0",
                mappings=words(_0=("Missing", BAD), _1=("Firing", GOOD)),
            ),
            stat_panel(
                "Targets down",
                "Targets that Prometheus cannot scrape.",
                f"count({select('up')} == 0) or 0 * count({select('up')})",
                steps=high_is_bad(critical=1),
            ),
            stat_panel(
                "Alertmanagers",
                "Alertmanagers to which Prometheus sends alerts.",
                f"min({select('prometheus_notifications_alertmanagers_discovered')})",
                steps=low_is_bad(critical=1),
            ),
            stat_panel(
                "Configuration",
                "Whether the last configuration reload of Prometheus and Alertmanager succeeded.",
                f"min({select('prometheus_config_last_reload_successful')})"
                f" * min({select('alertmanager_config_last_reload_successful')})",
                mappings=words(_0=("Rejected", BAD), _1=("Loaded", GOOD)),
            ),
            stat_panel(
                "Rule failures",
                "Failed rule evaluations in the last hour. The alerts of such rules cannot fire.",
                f"sum({increase('prometheus_rule_evaluation_failures_total', over='1h')})",
                steps=high_is_bad(critical=1),
            ),
            stat_panel(
                "Events complete",
                "Whether the Celery exporter has received every event since it connected.",
                f"min({select('celery_exporter_events_complete')})",
                mappings=YES_GOOD,
            ),
        ),
    )


def _alerts() -> Row:
    sent = f"sum by (integration) ({rate('alertmanager_notifications_total')})"
    failed = f"sum by (integration) ({rate('alertmanager_notifications_failed_total')})"
    by_severity = f"count by (severity) ({recorded('ALERTS', FIRING)})"
    return Row(
        "Do alerts reach people?",
        (
            firing_table(Size(10, 8)),
            alert_list_panel(
                "Alert list",
                "Grafana's list of pending and firing alerts with links to their rules.",
                Size(6, 8),
            ),
            series_panel(
                "Alerts over time",
                "Firing alerts by severity.",
                Query(by_severity, "{{severity}}"),
                colors=SEVERITY_COLORS,
                size=THIRD,
            ),
            series_panel(
                "Notifications",
                "Notifications sent per second, by integration.",
                Query(f"{sent} > 0 or sum({sent})", "{{integration}}"),
                unit="ops",
                size=THIRD,
            ),
            series_panel(
                "Failed notifications",
                "Share of notifications that failed. The dashed line is AlertmanagerNotificationsFailing.",
                Query(f"sum({failed}) / clamp_min(sum({sent}), 1e-9)", "failed"),
                unit="percentunit",
                limits=high_is_bad(limit("notification_failure_ratio:max")),
                size=THIRD,
            ),
            series_panel(
                "Prometheus to Alertmanager",
                "Alerts per second that Prometheus sent and dropped.",
                Query(f"sum({rate('prometheus_notifications_sent_total')})", "sent"),
                Query(f"sum({rate('prometheus_notifications_dropped_total')})", "dropped"),
                unit="ops",
                size=THIRD,
            ),
        ),
    )


def _targets() -> Row:
    return Row(
        "Is everything scraped?",
        (
            timeline_panel(
                "Targets up",
                "Whether each target could be scraped. Red is TargetDown.",
                Query(f"min by (job, instance) ({select('up')})", "{{job}} {{instance}}"),
                mappings=UP,
                size=Size(12, 9),
            ),
            bars_panel(
                "Scrape duration",
                "Duration of the slowest scrape by job. Scrapes that take longer than the timeout of 10 s fail.",
                Query(f"max by (job) ({select('scrape_duration_seconds')})", "{{job}}"),
                unit="s",
                steps=high_is_bad(5, 10),
                size=Size(6, 9),
            ),
            bars_panel(
                "Samples per scrape",
                "Number of samples per scrape by job.",
                Query(f"sum by (job) ({select('scrape_samples_post_metric_relabeling')})", "{{job}}"),
                size=Size(6, 9),
            ),
        ),
    )


def _prometheus() -> Row:
    late = f"max by (rule_group) ({select('prometheus_rule_group_last_duration_seconds')})"
    interval = f"max by (rule_group) ({select('prometheus_rule_group_interval_seconds')})"
    return Row(
        "Is Prometheus healthy?",
        (
            series_panel(
                "Series in memory",
                "Active series. The dashed line is PrometheusTooManySeries.",
                Query(f"max by (instance) ({select('prometheus_tsdb_head_series')})", "{{instance}}"),
                limits=high_is_bad(limit("prometheus_series:max")),
                size=THIRD,
            ),
            series_panel(
                "Samples stored",
                "Samples per second that Prometheus stores.",
                Query(f"sum({rate('prometheus_tsdb_head_samples_appended_total')})", "samples"),
                unit="cps",
                size=THIRD,
            ),
            bars_panel(
                "Rule groups",
                "Evaluation time of the slowest rule groups as a share of their interval. Above 100% alerts are late.",
                Query(
                    f'label_replace(topk(8, {late} / {interval}), "group", "$1", "rule_group", ".*;(.*)")',
                    "{{group}}",
                ),
                unit="percentunit",
                steps=high_is_bad(0.5, 1),
                maximum=1,
            ),
            series_panel(
                "Storage",
                "Size of blocks, write-ahead log and head chunks.",
                Query(f"max({select('prometheus_tsdb_storage_blocks_bytes')})", "blocks"),
                Query(f"max({select('prometheus_tsdb_wal_storage_size_bytes')})", "write-ahead log"),
                Query(f"max({select('prometheus_tsdb_head_chunks_storage_size_bytes')})", "head chunks"),
                unit="bytes",
                size=THIRD,
            ),
            series_panel(
                "Query time",
                "90th percentile of query durations.",
                Query(
                    f"max by (slice) ({select('prometheus_engine_query_duration_seconds', QUANTILE)})",
                    "{{slice}}",
                ),
                unit="s",
                size=THIRD,
            ),
            series_panel(
                "Storage errors",
                "Failed compactions and WAL corruptions in an hour. Any value other than zero is PrometheusStorageFailing.",
                Query(
                    f"sum({increase('prometheus_tsdb_compactions_failed_total', over='1h')})", "compactions"
                ),
                Query(f"sum({increase('prometheus_tsdb_wal_corruptions_total', over='1h')})", "corruptions"),
                size=THIRD,
            ),
        ),
    )


def _exporter() -> Row:
    lost = ("lost", "dropped", "undecodable")
    errors = f"sum by (collector) ({increase('celery_exporter_collect_errors_total')}) > 0"
    return Row(
        "Does the Celery exporter keep up?",
        (
            series_panel(
                "Events",
                "Events per second by type.",
                Query(f"topk(8, sum by (type) ({rate('celery_exporter_events_total')}))", "{{type}}"),
                unit="ops",
                size=THIRD,
            ),
            series_panel(
                "Event lag",
                "Time until the exporter counts an event. The dashed line is CeleryEventLagHigh.",
                Query(f"max({select('celery_exporter_event_lag_seconds')})", "lag"),
                unit="s",
                limits=high_is_bad(limit("celery_event_lag:seconds")),
                size=THIRD,
            ),
            series_panel(
                "Events lost",
                "Events per second that were not counted, by reason.",
                *(
                    Query(
                        f"sum({rate(f'celery_exporter_events_{how}_total')}) or 0 * sum({select('celery_exporter_series')})",
                        how,
                    )
                    for how in lost
                ),
                unit="ops",
                size=THIRD,
            ),
            series_panel(
                "Output buffer",
                "Bytes that Redis buffers for the exporter. Above 8 MB for a minute, Redis disconnects it.",
                Query(f"max({select('celery_exporter_output_buffer_bytes')})", "buffer"),
                unit="bytes",
                size=THIRD,
            ),
            series_panel(
                "Exporter series",
                "Series in the exporter, and label values that it rejected.",
                Query(f"max({select('celery_exporter_series')})", "series"),
                Query(
                    f"sum({increase('celery_exporter_series_capped_total', over='1h')})",
                    "rejected in an hour",
                ),
                size=THIRD,
            ),
            series_panel(
                "Collector errors",
                "Failed collections. The series “none” is zero while there are none.",
                Query(or_none(errors, "collector", select("celery_exporter_series")), "{{collector}}"),
                size=THIRD,
            ),
        ),
    )


def _logs() -> Row:
    """Shown empty without the log store."""
    lines = select("logs_recent_lines")
    last = f"max by (service) ({select('logs_last_line_timestamp_seconds')})"
    errors = f"topk(10, max by (service, logger) ({select('logs_recent_errors')}))"
    panics = f"max by (service) ({select('logs_recent_panics')})"
    return Row(
        "What do the logs say?",
        (
            series_panel(
                "Errors by logger",
                "Error lines of the last five minutes. The dashed line is LogErrorsHigh.",
                Query(or_none(errors, "logger", lines), "{{service}} {{logger}}"),
                limits=high_is_bad(limit("log_errors:max")),
            ),
            series_panel(
                "Lines by service",
                "Lines of the last five minutes that are in the log store.",
                Query(f"topk(10, max by (service) ({lines}))", "{{service}}"),
            ),
            series_panel(
                "Panics",
                "Lines of the last five minutes with which a program ended. Any is LogPanic.",
                Query(or_none(panics, "service", lines), "{{service}}"),
            ),
            series_panel(
                "Age of the last line",
                "Time since the newest stored line. The dashed line is LogSilence, for services that write regularly.",
                Query(f"topk(10, time() - {last})", "{{service}}"),
                unit="s",
                limits=high_is_bad(limit("log_silence:seconds")),
            ),
        ),
    )


def _processes() -> Row:
    return Row(
        "What does monitoring cost?",
        (
            series_panel(
                "CPU by job",
                "CPUs used by the programs of each job.",
                Query(f"sum by (job) ({rate('process_cpu_seconds_total')})", "{{job}}"),
                unit="none",
            ),
            series_panel(
                "Memory by job",
                "Resident memory of the programs of each job.",
                Query(f"sum by (job) ({select('process_resident_memory_bytes')})", "{{job}}"),
                unit="bytes",
            ),
        ),
    )
