"""Keeps one customer from occupying all AI workers.

Each customer may have AI_PER_OWNER jobs running at the same time, across all workers. Another job of theirs waits in
the database, not in a worker: the end of each job sends the next one, and housekeeping finds those left over.
"""

import logging
from datetime import timedelta
from functools import partial

from django.conf import settings
from django.db import DatabaseError, connection, transaction
from django.utils import timezone

from ai.models import AIJob
from config.sending import enqueue

log = logging.getLogger(__name__)

Status = AIJob.Status

# Hard time limit of a job's task, in seconds. A job that started longer ago is no longer running.
TIME_LIMIT = 150


def send(job: AIJob) -> bool:
    """Send the task of a job. Returns whether the broker accepted it."""
    return enqueue(_task(job), str(job.pk), task_id=str(job.pk), on_failure=partial(_unsend, job))


def send_later(job: AIJob, seconds: float) -> bool:
    """Send a task for the next step of a job. To Celery it is a new task, with a new ID."""
    return enqueue(_task(job), str(job.pk), countdown=seconds, on_failure=partial(_unsend, job))


def _task(job: AIJob) -> str:
    return "ai.tasks.run_priority_job" if job.priority else "ai.tasks.run_job"


def _unsend(job: AIJob) -> None:
    AIJob.objects.filter(pk=job.pk, status__in=(Status.QUEUED, Status.WAITING)).update(sent_at=None)


def has_turn(owner_id: int) -> bool:
    """Whether the owner has fewer jobs running than allowed. Call it in the transaction that starts one.

    Starts of one owner take turns until the end of their transactions, so that two of them cannot both take the last
    place. A job whose worker died counts until the time limit of its task.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"ai:{owner_id}"])
    alive = timezone.now() - timedelta(seconds=TIME_LIMIT)
    running = AIJob.objects.filter(owner_id=owner_id, status=Status.RUNNING, started_at__gte=alive)
    return running.count() < settings.AI_PER_OWNER


def postpone(job: AIJob) -> None:
    """Let the job wait until another job of its owner has ended."""
    _unsend(job)


def send_next(owner_id: int) -> bool:
    """Send the owner's job that has been waiting for the longest time. Returns whether one was sent.

    Never raises for a database that is unavailable: the result of the finished job matters more, and housekeeping sends the next one anyway.
    """
    try:
        with transaction.atomic():
            waiting = AIJob.objects.filter(owner_id=owner_id, status=Status.QUEUED, sent_at__isnull=True)
            job = waiting.select_for_update(skip_locked=True).order_by("created_at").first()
            if job is not None:
                AIJob.objects.filter(pk=job.pk).update(sent_at=timezone.now())
    except DatabaseError:
        log.exception("next job not sent, housekeeping will send it", extra={"owner": owner_id})
        return False
    return job is not None and send(job)
