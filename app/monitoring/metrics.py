"""The app's own metrics. Known label values exist from the start, so that a first failure shows as an increase."""

from itertools import product

from prometheus_client import Counter, Histogram

from config.queues import TASK_ROUTES

AI_OUTCOMES = (
    "success",
    "timeout",
    "connection_error",
    "rate_limited",
    "server_error",
    "unauthorized",
    "rejected",
    "blocked",
    "empty",
    "invalid_response",
    "internal_error",
)
PROVIDERS = ("gemini", "perplexity", "sandbox")

AI_REQUESTS = Counter("posthub_ai_requests_total", "Requests to AI providers", ("provider", "outcome"))
AI_SECONDS = Histogram(
    "posthub_ai_request_duration_seconds",
    "Duration of requests to AI providers",
    ("provider",),
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60),
)
AI_JOBS = Counter("posthub_ai_jobs_total", "AI jobs that have finished", ("kind", "status"))
QUOTA_REFUSALS = Counter(
    "posthub_ai_quota_refusals_total",
    "AI jobs that were refused because of the plan's daily quota",
    ("kind",),
)
MEDIA_BYTES = Counter("posthub_media_stored_bytes_total", "Bytes written to the media store", ("kind",))
VIDEO_SECONDS = Counter(
    "posthub_ai_video_seconds_total", "Seconds of video that providers have agreed to make", ("provider",)
)
POST_OUTCOMES = Counter(
    "posthub_publish_attempts_total",
    "Attempts to publish, by the resulting state of the post",
    ("publisher", "status"),
)
POSTPONED = Counter(
    "posthub_publish_postponed_total", "Attempts to publish that were postponed without a call", ("reason",)
)
WEBHOOK_SECONDS = Histogram("posthub_webhook_duration_seconds", "Duration of calls to customers' webhooks")
ENQUEUE_FAILURES = Counter(
    "posthub_enqueue_failures_total", "Tasks that could not be sent to the broker", ("task",)
)
SIGN_INS = Counter("posthub_sign_ins_total", "Attempts to sign in with a password", ("outcome",))
SIGN_IN_OUTCOMES = ("success", "failure", "throttled_address", "throttled_account", "unavailable")

STRIPE_WEBHOOKS = Counter(
    "posthub_stripe_webhook_requests_total", "Requests to Stripe's webhook endpoint", ("outcome",)
)
WEBHOOK_OUTCOMES = (
    "accepted",
    "duplicate",
    "ignored",
    "no_signature",
    "bad_signature",
    "old_timestamp",
    "too_large",
    "invalid",
    "throttled",
    "unavailable",
    "not_configured",
    "internal_error",
)
STRIPE_EVENT_LAG = Histogram(
    "posthub_stripe_event_lag_seconds",
    "Time from the creation of an event in Stripe until it is handled",
    buckets=(1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 14400, 86400),
)
STRIPE_REQUESTS = Counter(
    "posthub_stripe_requests_total", "Requests to Stripe's API", ("operation", "outcome")
)
STRIPE_SECONDS = Histogram(
    "posthub_stripe_request_duration_seconds", "Duration of requests to Stripe's API", ("operation",)
)
STRIPE_OPERATIONS = (
    "create_customer",
    "get_customer",
    "create_checkout",
    "get_checkout",
    "create_portal",
    "list_subscriptions",
    "list_events",
)
STRIPE_OUTCOMES = (
    "success",
    "connection_error",
    "rate_limited",
    "server_error",
    "unauthorized",
    "rejected",
    "missing",
    "invalid_response",
    "internal_error",
)

for _outcome in WEBHOOK_OUTCOMES:
    STRIPE_WEBHOOKS.labels(_outcome)
for _operation, _outcome in product(STRIPE_OPERATIONS, STRIPE_OUTCOMES):
    STRIPE_REQUESTS.labels(_operation, _outcome)
for _reason in ("owner_limit", "circuit_open"):
    POSTPONED.labels(_reason)
for _kind in ("caption", "image", "video"):
    QUOTA_REFUSALS.labels(_kind)
for _provider in ("gemini", "sandbox"):
    VIDEO_SECONDS.labels(_provider)
for _kind in ("image", "video"):
    MEDIA_BYTES.labels(_kind)
for _outcome in SIGN_IN_OUTCOMES:
    SIGN_INS.labels(_outcome)
for _provider, _outcome in product(PROVIDERS, AI_OUTCOMES):
    AI_REQUESTS.labels(_provider, _outcome)
for _kind, _status in product(("caption", "embedding", "image", "video"), ("succeeded", "failed")):
    AI_JOBS.labels(_kind, _status)
AI_JOBS.labels("video", "unknown")
for _publisher, _status in product(("webhook", "sandbox"), ("published", "scheduled", "failed")):
    POST_OUTCOMES.labels(_publisher, _status)
for _task in TASK_ROUTES:
    ENQUEUE_FAILURES.labels(_task)
