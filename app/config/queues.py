"""The queues of production, and the only place that assigns tasks to them."""

from kombu import Exchange, Queue

# The kombu transports whose libraries are installed; memory:// is for tests.
BROKERS = (
    "redis://",
    "rediss://",
    "redis+socket://",
    "sentinel://",
    "amqp://",
    "amqps://",
    "pyamqp://",
    "memory://",
)

DEFAULT = "default"
QUICK = "quick"
SCHEDULED = "scheduled"
AI_JOBS = "ai_jobs"
AI_PRIORITY = "ai_priority"

NAMES = (DEFAULT, QUICK, SCHEDULED, AI_JOBS, AI_PRIORITY)

TASK_QUEUES = tuple(Queue(name, Exchange(name, type="direct"), routing_key=name) for name in NAMES)

TASK_ROUTES = {
    "posts.tasks.publish_now": {"queue": QUICK},
    "posts.tasks.publish_due": {"queue": SCHEDULED},
    "posts.tasks.publish_scheduled": {"queue": SCHEDULED},
    "posts.tasks.refresh_channel": {"queue": DEFAULT},
    "monitoring.tasks.housekeeping": {"queue": DEFAULT},
    "billing.tasks.handle_event": {"queue": DEFAULT},
    "billing.tasks.catch_up": {"queue": DEFAULT},
    "billing.tasks.reconcile": {"queue": DEFAULT},
    "ai.tasks.run_job": {"queue": AI_JOBS},
    "ai.tasks.run_priority_job": {"queue": AI_PRIORITY},
}
