from typing import Any

from celery import Task, shared_task
from django.conf import settings
from django.db.models import Count, Max

from config.sending import SAFE, backoff, enqueue
from posts import fairness, publication
from posts.models import Channel, Post
from posts.publishers import UnreachableError

BATCH = 500
PUBLISH: dict[str, Any] = {
    "bind": True,
    "max_retries": 20,
    "soft_time_limit": 60,
    "time_limit": fairness.TIME_LIMIT,
    **SAFE,
}


@shared_task(name="posts.tasks.publish_now", **PUBLISH)
def publish_now(self: "Task[..., Any]", pk: str) -> str:
    return _publish(self, pk)


@shared_task(name="posts.tasks.publish_scheduled", **PUBLISH)
def publish_scheduled(self: "Task[..., Any]", pk: str) -> str:
    return _publish(self, pk)


def _publish(task: "Task[..., Any]", pk: str) -> str:
    try:
        return publication.publish(pk, claimant=str(task.request.id))
    except UnreachableError as error:
        raise task.retry(
            exc=error, countdown=backoff(task.request.retries, settings.PUBLISH_BACKOFF)
        ) from error


@shared_task(name="posts.tasks.publish_due", soft_time_limit=50, time_limit=60, **SAFE)
def publish_due() -> int:
    """Send a task for each due post. Returns the number of tasks that the broker accepted."""
    keys = publication.due(BATCH)
    for position, key in enumerate(keys):
        if not enqueue("posts.tasks.publish_scheduled", key):
            publication.not_sent(keys[position:])
            return position
    return len(keys)


@shared_task(name="posts.tasks.refresh_channel", soft_time_limit=20, time_limit=30, **SAFE)
def refresh_channel(pk: str) -> None:
    """Count a channel's totals again from its posts, so that they are right however often this runs."""
    published = Post.objects.filter(channel_id=pk, status=Post.Status.PUBLISHED)
    totals = published.aggregate(count=Count("pk"), last=Max("published_at"))
    Channel.objects.filter(pk=pk).update(published_count=totals["count"], last_published_at=totals["last"])
