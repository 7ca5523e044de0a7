import logging
import random
from typing import Any

from celery import Task, shared_task
from django.conf import settings
from django.db.models import Count, Max

from posts import publishing
from posts.models import Channel, Post
from posts.publishers import UnreachableError
from posts.services import enqueue

log = logging.getLogger(__name__)

BATCH = 500
# Safe to run twice and to be cut off, so a message is acknowledged only after the work.
SAFE: dict[str, Any] = {"acks_late": True, "reject_on_worker_lost": True}
PUBLISH: dict[str, Any] = {"bind": True, "max_retries": 20, "soft_time_limit": 60, "time_limit": 75, **SAFE}


@shared_task(name="posts.tasks.publish_now", **PUBLISH)
def publish_now(self: "Task[..., Any]", pk: str) -> str:
    return _publish(self, pk)


@shared_task(name="posts.tasks.publish_scheduled", **PUBLISH)
def publish_scheduled(self: "Task[..., Any]", pk: str) -> str:
    return _publish(self, pk)


def _publish(task: "Task[..., Any]", pk: str) -> str:
    try:
        return publishing.publish(pk, claimant=str(task.request.id))
    except UnreachableError as error:
        raise task.retry(
            exc=error, countdown=backoff(task.request.retries, settings.PUBLISH_BACKOFF)
        ) from error


def backoff(retries: int, first: float) -> float:
    """Twice as long each time, with up to a quarter at random so that retries do not come all at once."""
    return min(settings.TASK_LONGEST_BACKOFF, first * 2**retries) * random.uniform(0.75, 1)


@shared_task(name="posts.tasks.publish_due", soft_time_limit=50, time_limit=60, **SAFE)
def publish_due() -> int:
    keys = publishing.due(BATCH)
    for position, key in enumerate(keys):
        if not enqueue(publish_scheduled, key):
            publishing.not_sent(keys[position:])
            return position
    return len(keys)


@shared_task(name="posts.tasks.refresh_channel", soft_time_limit=20, time_limit=30, **SAFE)
def refresh_channel(pk: str) -> None:
    """A channel's totals, counted afresh and therefore right however often this runs."""
    published = Post.objects.filter(channel_id=pk, status=Post.Status.PUBLISHED)
    totals = published.aggregate(count=Count("pk"), last=Max("published_at"))
    Channel.objects.filter(pk=pk).update(published_count=totals["count"], last_published_at=totals["last"])


def after_publishing(post: Post) -> None:
    from ai.services import request_embedding

    enqueue(refresh_channel, str(post.channel_id))
    request_embedding(post)
