from typing import Any

from celery import Task, shared_task
from django.conf import settings

from ai import fairness, providers, runner
from config.sending import SAFE, backoff

RUN: dict[str, Any] = {
    "bind": True,
    "max_retries": 20,
    "soft_time_limit": 120,
    "time_limit": fairness.TIME_LIMIT,
    **SAFE,
}


@shared_task(name="ai.tasks.run_job", **RUN)
def run_job(self: "Task[..., Any]", pk: str) -> str:
    return _run(self, pk)


@shared_task(name="ai.tasks.run_priority_job", **RUN)
def run_priority_job(self: "Task[..., Any]", pk: str) -> str:
    return _run(self, pk)


def _run(task: "Task[..., Any]", pk: str) -> str:
    try:
        return runner.run(pk, again=bool((task.request.delivery_info or {}).get("redelivered")))
    except providers.TryLaterError as error:
        wait = max(error.after or 0, backoff(task.request.retries, settings.AI_BACKOFF))
        raise task.retry(exc=error, countdown=min(wait, settings.TASK_LONGEST_BACKOFF)) from error
