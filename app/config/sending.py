"""Sending tasks by name, so that apps can send each other work without importing each other.

The database is authoritative, and a message is only a hint: beat finds a row whose message was lost, and sends it again.
"""

import logging
import random
from collections.abc import Callable
from typing import Any

from celery import current_app
from django.conf import settings
from kombu.exceptions import OperationalError

from config.queues import TASK_ROUTES
from monitoring.metrics import ENQUEUE_FAILURES

log = logging.getLogger(__name__)

# Options of a task that is safe to run twice and to interrupt: its message is acknowledged after the work.
SAFE: dict[str, Any] = {"acks_late": True, "reject_on_worker_lost": True}


def enqueue(
    task: str,
    *args: str,
    on_failure: Callable[[], object] | None = None,
    task_id: str | None = None,
    countdown: float | None = None,
) -> bool:
    """Send a task for work that is already in the database. Returns whether the broker accepted it.

    A broker failure is logged and counted, never raised: the customer's request stays valid, and beat sends the task
    later. `on_failure` marks the row as not sent. `countdown` is in seconds.

    Raises:
        KeyError: no queue is configured for a task of this name.
    """
    queue = TASK_ROUTES[task]["queue"]
    try:
        current_app.send_task(task, args, task_id=task_id, queue=queue, countdown=countdown)
    except OperationalError:
        log.exception("task not sent, beat will send it", extra={"task": task})
        ENQUEUE_FAILURES.labels(task).inc()
        if on_failure:
            on_failure()
        return False
    return True


def backoff(retries: int, first: float) -> float:
    """Seconds to wait before the next attempt: doubled for each retry, up to TASK_LONGEST_BACKOFF.

    Up to a quarter is subtracted at random, so that retries do not all run at once.
    """
    return min(settings.TASK_LONGEST_BACKOFF, first * 2**retries) * random.uniform(0.75, 1)
