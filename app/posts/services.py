"""What a customer may do with a post. Each action changes the state while it holds the row's lock."""

from datetime import datetime
from functools import partial
from typing import Any

from django.db import transaction
from django.utils import timezone

from config.errors import Conflict
from config.sending import enqueue
from posts.models import Post
from posts.publication import not_sent

Status = Post.Status
EDITABLE = (Status.DRAFT, Status.SCHEDULED, Status.FAILED)


def _locked(post: Post, action: str, allowed: tuple[Status, ...]) -> Post:
    locked = Post.objects.select_for_update().get(pk=post.pk)
    if locked.status not in allowed:
        raise Conflict(f"A post that is {locked.status} cannot be {action}.", code="wrong_status")
    return locked


def _fresh(post: Post, when: datetime) -> None:
    """Schedule the post as if it were new: earlier attempts and errors no longer count."""
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
    now = timezone.now()
    _fresh(post, now)
    post.sent_at = now
    post.save()
    pk = str(post.pk)
    transaction.on_commit(partial(enqueue, "posts.tasks.publish_now", pk, on_failure=partial(not_sent, [pk])))
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
