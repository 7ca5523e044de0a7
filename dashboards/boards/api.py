"""API: request rate, errors, durations and error budgets."""

from dashboards.board import Board, Row
from dashboards.panels import (
    THIRD,
    Column,
    Size,
    bars_panel,
    heat_panel,
    series_panel,
    stat_panel,
    table_panel,
    timeline_panel,
)
from dashboards.query import Query, increase, or_none, quantile, rate, recorded, select
from dashboards.style import STATE_COLORS, UP, high_is_bad, low_is_bad
from dashboards.thresholds import limit

REQUESTS = "django_http_requests_total_by_method_total"
RESPONSES = "django_http_responses_total_by_status_total"
BY_VIEW = "django_http_responses_total_by_status_view_method_total"
LATENCY = "django_http_requests_latency_seconds_by_view_method"
# The objectives do not cover probes and scrapes; the recorded slo: series leave them out too.
CALLERS = 'view!~"prometheus-django-metrics|(.*[:.-])?health.*"'
SERVER_ERROR = 'status=~"5.."'

# The latency objective counts requests up to this bucket as fast; the slo:api_slow: rules use the same.
OBJECTIVE_SECONDS = 0.5
OBJECTIVE = f'le="{OBJECTIVE_SECONDS:g}"'
ERROR_BUDGET = limit("api_error_budget:ratio")
SLOW_BUDGET = limit("api_slow_budget:ratio")
ERRORS = high_is_bad(ERROR_BUDGET, limit("api_error_ratio:max"))
# Burn rates: 14.4 uses 2% of a month's budget in an hour, 1 uses all of it in a month.
BURN = high_is_bad(1, 14.4)
BUDGET_LEFT = low_is_bad(0.5, 0)


def board() -> Board:
    """Return the API dashboard."""
    return Board(
        uid="posthub-api",
        title="PostHub / API",
        description="Rate, errors and durations of the Django API, its objectives and its dependencies.",
        jobs="django|blackbox.*|celery",
        tags=("api",),
        rows=(
            _health(),
            _traffic(),
            _objectives(),
            _views(),
            _dependencies(),
            _product(),
            _media(),
            _billing(),
        ),
    )


def error_ratio() -> str:
    """Return the share of 5xx responses; 0 if there was none."""
    everything = f"sum({rate(BY_VIEW, CALLERS)})"
    return f"(sum({rate(BY_VIEW, SERVER_ERROR, CALLERS)}) or 0 * {everything}) / {everything}"


def slowest(by: str = "") -> str:
    """Return the 95th percentile of request durations."""
    return quantile(0.95, LATENCY, CALLERS, by=by)


def budget_left() -> str:
    """Return the remaining share of the error budget of 30 days."""
    everything = f"sum({increase(BY_VIEW, CALLERS, over='30d')})"
    bad = f"(sum({increase(BY_VIEW, SERVER_ERROR, CALLERS, over='30d')}) or 0 * {everything})"
    return f"1 - {bad} / {everything} / {ERROR_BUDGET:g}"


def slow_budget_left() -> str:
    """Return the remaining share of the latency budget of 30 days."""
    fast = f"sum({increase(f'{LATENCY}_bucket', OBJECTIVE, CALLERS, over='30d')})"
    everything = f"sum({increase(f'{LATENCY}_count', CALLERS, over='30d')})"
    return f"1 - (1 - {fast} / {everything}) / {SLOW_BUDGET:g}"


def _health() -> Row:
    return Row(
        "Is the API healthy?",
        (
            stat_panel(
                "Requests per second",
                "Requests that Django handled, over all views.",
                f"sum({rate(REQUESTS)})",
                unit="reqps",
                spark=True,
            ),
            stat_panel(
                "Server errors",
                "Share of responses with a 5xx status, without probes and scrapes. Red is HighErrorRate, "
                "which also needs a minimum number of requests.",
                error_ratio(),
                unit="percentunit",
                steps=ERRORS,
                no_value="No traffic",
                spark=True,
            ),
            stat_panel(
                "P95 response time",
                "95th percentile of request durations, without probes and scrapes.",
                slowest(),
                unit="s",
                steps=high_is_bad(OBJECTIVE_SECONDS),
                no_value="No traffic",
                spark=True,
            ),
            stat_panel(
                "Error budget left",
                "Remaining share of the errors that the objective allows in 30 days. Below zero it is missed.",
                budget_left(),
                unit="percentunit",
                no_value="No traffic",
                steps=BUDGET_LEFT,
                decimals=1,
            ),
            stat_panel(
                "External probe",
                "Whether the blackbox exporter gets a valid response from the site.",
                f"min({select('probe_success')})",
                mappings=UP,
            ),
            stat_panel(
                "Unapplied migrations",
                "Migrations in the code that are not applied to the database: a deployment stopped half-way.",
                f"max({select('django_migrations_unapplied_total')})",
                steps=high_is_bad(1),
            ),
        ),
    )


def _traffic() -> Row:
    return Row(
        "What do clients see?",
        (
            series_panel(
                "Request Rate",
                "Requests per second by HTTP method.",
                Query(f"sum by (method) ({rate(REQUESTS)})", "{{method}}"),
                unit="reqps",
                stacked=True,
                size=THIRD,
            ),
            series_panel(
                "Response Time P95",
                "95th percentile of request durations by HTTP method. The objective is 0.5 s.",
                Query(slowest("method"), "{{method}}"),
                unit="s",
                limits=high_is_bad(OBJECTIVE_SECONDS),
                size=THIRD,
            ),
            series_panel(
                "Celery Tasks",
                "Celery task events per second by state.",
                Query(f"sum by (state) ({rate('celery_tasks_total')})", "{{state}}"),
                unit="ops",
                colors=STATE_COLORS,
                size=THIRD,
            ),
            series_panel(
                "Responses by status",
                "Responses per second by status.",
                Query(f"sum by (status) ({rate(RESPONSES)})", "{{status}}"),
                unit="reqps",
                stacked=True,
            ),
            heat_panel(
                "Request durations",
                "Distribution of request durations over time. Brighter means more requests.",
                f"sum by (le) ({increase(f'{LATENCY}_bucket')})",
            ),
        ),
    )


def _objectives() -> Row:
    return Row(
        "Are the objectives met?",
        (
            series_panel(
                "Error budget burn",
                f"Burn rate of the error budget (objective {1 - ERROR_BUDGET:.1%}). "
                "1 uses exactly the month's budget; the red line is ApiAvailabilityBurnFast.",
                *_burn("slo:api_errors:ratio_rate", ERROR_BUDGET),
                unit="none",
                limits=BURN,
            ),
            series_panel(
                "Latency budget burn",
                f"Burn rate of the budget of requests slower than 0.5 s (objective {1 - SLOW_BUDGET:.1%}).",
                *_burn("slo:api_slow:ratio_rate", SLOW_BUDGET),
                unit="none",
                limits=BURN,
            ),
        ),
    )


def _burn(record: str, budget: float) -> list[Query]:
    windows = ("5m", "1h", "6h", "3d")
    return [Query(f"{recorded(record + window)} / {budget:g}", window) for window in windows]


def _views() -> Row:
    everything = f"sum by (view) ({rate(BY_VIEW)})"
    failed = f"(sum by (view) ({rate(BY_VIEW, SERVER_ERROR)}) or 0 * {everything})"
    return Row(
        "Which view causes problems?",
        (
            series_panel(
                "Requests by view",
                "Requests per second by view.",
                Query(everything, "{{view}}"),
                unit="reqps",
                size=THIRD,
            ),
            series_panel(
                "Errors by view",
                "Share of 5xx responses by view.",
                Query(f"{failed} / {everything}", "{{view}}"),
                unit="percentunit",
                limits=high_is_bad(limit("api_view_error_ratio:max")),
                size=THIRD,
            ),
            series_panel(
                "P95 by view",
                "95th percentile of request durations by view.",
                Query(quantile(0.95, LATENCY, by="view"), "{{view}}"),
                unit="s",
                limits=high_is_bad(OBJECTIVE_SECONDS),
                size=THIRD,
            ),
            table_panel(
                "Views",
                "Rate, errors and durations of each view.",
                {"view": "View"},
                {
                    "rate": (everything, Column("Requests", "reqps")),
                    "errors": (f"{failed} / {everything}", Column("Errors", "percentunit", ERRORS)),
                    "median": (quantile(0.5, LATENCY, by="view"), Column("p50", "s")),
                    "p95": (
                        quantile(0.95, LATENCY, by="view"),
                        Column("p95", "s", high_is_bad(OBJECTIVE_SECONDS)),
                    ),
                },
                sort="Requests",
                size=Size(14, 8),
            ),
            series_panel(
                "Exceptions",
                "Unhandled exceptions of views per second. The series “none” is zero while there are none.",
                Query(
                    or_none(
                        f"sum by (type) ({rate('django_http_exceptions_total_by_type_total')}) > 0",
                        "type",
                        rate(REQUESTS),
                    ),
                    "{{type}}",
                ),
                unit="ops",
                size=Size(10, 8),
            ),
        ),
    )


def _dependencies() -> Row:
    errors = f"sum by (alias, type) ({increase('django_db_errors_total', over='10m')}) > 0"
    return Row(
        "Are the dependencies healthy?",
        (
            series_panel(
                "Database queries",
                "Statements per second that Django executes.",
                Query(f"sum by (alias) ({rate('django_db_execute_total')})", "{{alias}}"),
                unit="ops",
                size=THIRD,
            ),
            series_panel(
                "Database query time",
                "Duration of statements as measured by Django.",
                Query(quantile(0.5, "django_db_query_duration_seconds"), "p50"),
                Query(quantile(0.95, "django_db_query_duration_seconds"), "p95"),
                unit="s",
                size=THIRD,
            ),
            series_panel(
                "Database errors",
                "Database errors in the preceding ten minutes. "
                "The dashed line is DjangoDatabaseErrors. The series “none” is zero while there are none.",
                Query(or_none(errors, "type", rate(REQUESTS)), "{{alias}} {{type}}"),
                limits=high_is_bad(limit("api_database_errors:max")),
                size=THIRD,
            ),
            timeline_panel(
                "Probes",
                "Whether each address responded to the external probe.",
                Query(f"min by (instance) ({select('probe_success')})", "{{instance}}"),
                mappings=UP,
                size=THIRD,
            ),
            series_panel(
                "Probe duration",
                "Duration of the external probe, including DNS and TLS.",
                Query(f"max by (instance) ({select('probe_duration_seconds')})", "{{instance}}"),
                unit="s",
                limits=high_is_bad(limit("probe_duration:seconds")),
                size=THIRD,
            ),
            bars_panel(
                "Certificate expires in",
                "Time until the TLS certificate expires. Caddy renews at 30 days; TlsCertExpiring fires below 21.",
                Query(
                    f"min by (instance) ({select('probe_ssl_earliest_cert_expiry')}) - time()", "{{instance}}"
                ),
                unit="s",
                steps=low_is_bad(limit("tls_remaining:seconds"), limit("tls_remaining_critical:seconds")),
            ),
        ),
    )


def _product() -> Row:
    asked = f"sum by (provider, outcome) ({rate('posthub_ai_requests_total')}) > 0"
    return Row(
        "Does PostHub publish?",
        (
            series_panel(
                "Publishing",
                "Publishing attempts per second, by the resulting state of the post.",
                Query(f"sum by (status) ({rate('posthub_publish_attempts_total')})", "{{status}}"),
                unit="ops",
            ),
            series_panel(
                "AI providers",
                "Requests to AI providers per second by outcome. The series “none” is zero while there are none.",
                Query(
                    or_none(asked, "provider", rate("posthub_ai_requests_total")), "{{provider}} {{outcome}}"
                ),
                unit="reqps",
            ),
        ),
    )


def _media() -> Row:
    refused = f"sum by (kind) ({increase('posthub_ai_quota_refusals_total')}) > 0"
    stored = f"sum by (kind) ({rate('posthub_media_stored_bytes_total')})"
    return Row(
        "What do images and videos cost?",
        (
            stat_panel(
                "Videos in flight",
                "Operations that providers have accepted and not ended.",
                f"max({select('posthub_video_operations')})",
                spark=True,
                size=Size(8, 4),
            ),
            stat_panel(
                "Oldest operation",
                "Age of the oldest video operation in flight. Red is VideoOperationStuck.",
                f"max({select('posthub_video_operation_oldest_age_seconds')})",
                unit="s",
                steps=high_is_bad(limit("video_operation_age:seconds")),
                spark=True,
                size=Size(8, 4),
            ),
            stat_panel(
                "Cost of a day",
                "Images and videos of the last 24 hours at list prices, in US dollars. Red is AiSpendHigh.",
                recorded("ai:spend_usd:increase1d"),
                unit="currencyUSD",
                steps=high_is_bad(limit("ai_daily_spend:usd")),
                size=Size(8, 4),
            ),
            series_panel(
                "AI jobs",
                "Finished AI jobs by kind and outcome. `unknown` is a video that may have been started.",
                Query(f"sum by (kind, status) ({increase('posthub_ai_jobs_total')})", "{{kind}} {{status}}"),
                size=THIRD,
            ),
            series_panel(
                "Media stored",
                "Bytes per second written to the media store.",
                Query(stored, "{{kind}}"),
                unit="Bps",
                size=THIRD,
            ),
            series_panel(
                "Quota refusals",
                "Requests refused because of a plan's daily quota. The series “none” is zero while there are none.",
                Query(or_none(refused, "kind", rate("posthub_ai_quota_refusals_total")), "{{kind}}"),
                size=THIRD,
            ),
        ),
    )


def _billing() -> Row:
    return Row(
        "Do subscriptions match Stripe?",
        (
            stat_panel(
                "Oldest waiting event",
                "Age of the oldest Stripe event that is stored and not handled. Red is StripeEventsPending.",
                f"max({select('posthub_billing_oldest_pending_event_seconds')})",
                unit="s",
                steps=high_is_bad(limit("stripe_event_pending:seconds")),
                spark=True,
                size=Size(8, 4),
            ),
            stat_panel(
                "Undelivered events",
                "Events that only Stripe's API had, newer than the webhook's last delivery. If any remain, StripeWebhookSilent fires.",
                f"max({select('posthub_billing_undelivered_events')})",
                steps=high_is_bad(1),
                spark=True,
                size=Size(8, 4),
            ),
            stat_panel(
                "Last comparison",
                "Time since all subscriptions were compared with Stripe's. Red is BillingNotCompared.",
                f"time() - max({select('posthub_billing_compared_timestamp_seconds')})",
                unit="s",
                steps=high_is_bad(limit("billing_comparison_age:seconds")),
                size=Size(8, 4),
            ),
            series_panel(
                "Stripe's events",
                "Requests to Stripe's webhook per second by outcome. Anything but accepted, duplicate and ignored is refused.",
                Query(f"sum by (outcome) ({rate('posthub_stripe_webhook_requests_total')})", "{{outcome}}"),
                unit="reqps",
                size=THIRD,
            ),
            series_panel(
                "Lag of events",
                "Time until half, and 95%, of Stripe's events are handled.",
                *(
                    Query(quantile(share, "posthub_stripe_event_lag_seconds"), name)
                    for share, name in ((0.5, "half"), (0.95, "95%"))
                ),
                unit="s",
                size=THIRD,
            ),
            bars_panel(
                "Differences from Stripe",
                "What the last comparison of all subscriptions found, by kind. Any is a fault.",
                Query(f"max by (kind) ({select('posthub_billing_differences')})", "{{kind}}"),
                steps=high_is_bad(1),
            ),
        ),
    )
