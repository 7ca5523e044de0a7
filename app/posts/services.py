"""What a customer may do with a post, each a change of state under the row's lock."""

import logging
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Any

from celery import Task
from django.db import transaction
from django.utils import timezone

from config.errors import Conflict
from monitoring.metrics import ENQUEUE_FAILURES
from posts.models import Post
from posts.publishing import not_sent

log = logging.getLogger(__name__)

Status = Post.Status
EDITABLE = (Status.DRAFT, Status.SCHEDULED, Status.FAILED)


def _locked(post: Post, action: str, allowed: tuple[Status, ...]) -> Post:
    locked = Post.objects.select_for_update().get(pk=post.pk)
    if locked.status not in allowed:
        raise Conflict(f"A post that is {locked.status} cannot be {action}.", code="wrong_status")
    return locked


def _fresh(post: Post, when: datetime) -> None:
    """Back to the start of its way: attempts and errors of the past do not count any more."""
    post.status, post.scheduled_at = Status.SCHEDULED, when
    post.attempts, post.last_error, post.sent_at = 0, "", None


@transaction.atomic
def schedule(post: Post, when: datetime) -> Post:
    post = _locked(post, "scheduled", EDITABLE)
    _fresh(post, when)
    post.save()
    return post


@transaction.atomic
def publish_now(post: Post) -> Post:
    post = _locked(post, "published", EDITABLE)
    return _send(post)


@transaction.atomic
def retry(post: Post) -> Post:
    post = _locked(post, "retried", (Status.FAILED,))
    return _send(post)


def _send(post: Post) -> Post:
    from posts.tasks import publish_now as task

    now = timezone.now()
    _fresh(post, now)
    post.sent_at = now
    post.save()
    transaction.on_commit(partial(enqueue, task, str(post.pk), on_failure=partial(not_sent, [str(post.pk)])))
    return post


@transaction.atomic
def cancel(post: Post) -> Post:
    post = _locked(post, "cancelled", (Status.SCHEDULED,))
    post.status, post.scheduled_at, post.sent_at = Status.DRAFT, None, None
    post.save()
    return post


@transaction.atomic
def edit(post: Post, changes: dict[str, Any]) -> Post:
    post = _locked(post, "changed", EDITABLE)
    for name, value in changes.items():
        setattr(post, name, value)
    post.save()
    return post


@transaction.atomic
def delete(post: Post) -> None:
    _locked(post, "deleted", (*EDITABLE, Status.PUBLISHED)).delete()


def enqueue(
    task: "Task[..., Any]",
    *args: str,
    on_failure: Callable[[], None] | None = None,
    task_id: str | None = None,
) -> bool:
    """Send a task for work that the database already holds.

    Without a broker nothing is lost: beat finds the row and sends the task later. So the customer's request holds.
    """
    try:
        task.apply_async(args, task_id=task_id)
    except task.OperationalError:
        log.exception("task not sent, beat will send it", extra={"task": task.name})
        ENQUEUE_FAILURES.labels(task.name).inc()
        if on_failure:
            on_failure()
        return False
    return True
