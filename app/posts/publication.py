"""Publishing one post once, even when its task runs several times or at the same time as another.

claim (short transaction, row lock) → the publisher's network call (no transaction) → conditional update.
A task that runs twice finds nothing to claim. A worker that dies leaves the post in `publishing`: the same message
may continue it when it is delivered again, and otherwise `recover` releases it.
"""

import logging
from datetime import timedelta
from functools import partial
from typing import Any

from billiard.exceptions import SoftTimeLimitExceeded
from django.conf import settings
from django.db import OperationalError, connection, transaction
from django.db.models import Q, Window
from django.db.models.functions import RowNumber
from django.utils import timezone

from config.sending import enqueue
from monitoring.metrics import POST_OUTCOMES
from posts import fairness
from posts.models import Channel, Post
from posts.publishers import Publisher, RejectedError, UnreachableError, publisher_for
from posts.signals import post_published

log = logging.getLogger(__name__)

Status = Post.Status
# Allowed difference between the clock that set the time and this machine's.
CLOCK_TOLERANCE = timedelta(seconds=30)
# A customer's change locks the row for milliseconds. A longer lock must not block a worker as well.
LOCK_TIMEOUT = "5s"


class GaveUpError(Exception):
    """The last allowed attempt has failed."""


def publish(pk: str, claimant: str) -> str:
    """Publish the post if it is due, and return what happened.

    Raises:
        UnreachableError: this attempt failed and another one is due.
        GaveUpError: the last attempt failed.
    """
    try:
        post = _claim(pk, claimant)
    except OperationalError as error:
        reason = type(error.__cause__).__name__  # LockNotAvailable, or a lost connection to the database
        raise UnreachableError(f"the post could not be claimed ({reason})") from error
    if post is None:
        return "nothing to do"
    try:
        return _publish(post)
    finally:
        fairness.send_next(post.owner_id)


def _publish(post: Post) -> str:
    try:
        external_id = _publisher(post).publish(post)
    except RejectedError as error:
        return _fail(post, error)
    except (UnreachableError, SoftTimeLimitExceeded) as error:
        raise _again_or_fail(post, error) from error
    except Exception as error:
        _fail(post, error)
        raise
    return _done(post, external_id)


def _publisher(post: Post) -> Publisher:
    publisher = publisher_for(post.channel)
    if post.channel.publisher != Channel.Publisher.WEBHOOK:
        return publisher
    return fairness.CircuitBreaker(publisher, post.owner_id, post.channel.webhook_url)


@transaction.atomic
def _claim(pk: str, claimant: str) -> Post | None:
    waiting = Q(status=Status.SCHEDULED, scheduled_at__lte=timezone.now() + CLOCK_TOLERANCE)
    # The same message, delivered again because its worker died: time limits are far below the visibility timeout.
    mine = Q(status=Status.PUBLISHING, claimed_by=claimant)
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('lock_timeout', %s, true)", [LOCK_TIMEOUT])
    # This waits for the lock: a post skipped during an edit would stay unpublished until its message counts as lost.
    # PostgreSQL then applies the filter to the changed row, so the second of two tasks finds nothing.
    post = Post.objects.select_for_update(of=("self",)).filter(waiting | mine, pk=pk).first()
    if post is None:
        return None
    if post.attempts >= settings.PUBLISH_MAX_ATTEMPTS:
        _exhausted(post)
        return None
    if post.status == Status.SCHEDULED and not fairness.has_turn(post):
        fairness.postpone(post)
        return None
    post.status, post.claimed_by, post.claimed_at = Status.PUBLISHING, claimant, timezone.now()
    post.attempts += 1
    post.save(update_fields=["status", "claimed_by", "claimed_at", "attempts", "updated_at"])
    return post


def _exhausted(post: Post) -> None:
    post.status, post.claimed_by, post.claimed_at = Status.FAILED, "", None
    post.last_error = "worker lost during every attempt"
    post.save(update_fields=["status", "claimed_by", "claimed_at", "last_error", "updated_at"])
    POST_OUTCOMES.labels(post.channel.publisher, str(Status.FAILED)).inc()


def _end(post: Post, status: Status, **values: Any) -> bool:
    """Record the outcome, but only if this task still owns the claim."""
    claimed = Post.objects.filter(pk=post.pk, status=Status.PUBLISHING, claimed_by=post.claimed_by)
    changed = claimed.update(
        status=status, claimed_by="", claimed_at=None, updated_at=timezone.now(), **values
    )
    if changed:
        POST_OUTCOMES.labels(post.channel.publisher, str(status)).inc()
    else:
        log.warning("claim lost, outcome not recorded", extra={"post": str(post.pk), "outcome": str(status)})
    return bool(changed)


def _done(post: Post, external_id: str) -> str:
    with transaction.atomic():
        if _end(
            post, Status.PUBLISHED, published_at=timezone.now(), external_id=external_id[:200], last_error=""
        ):
            transaction.on_commit(partial(_announce, post))
    return str(Status.PUBLISHED)


def _announce(post: Post) -> None:
    """The post is out: a receiver that fails is logged, and does not make the task fail."""
    enqueue("posts.tasks.refresh_channel", str(post.channel_id))
    post_published.send_robust(sender=Post, post=post)


def _fail(post: Post, error: Exception) -> str:
    log.warning("post failed", extra={"post": str(post.pk), "reason": _reason(error)})
    _end(post, Status.FAILED, last_error=_reason(error))
    return str(Status.FAILED)


def _again_or_fail(post: Post, error: Exception) -> Exception:
    if post.attempts >= settings.PUBLISH_MAX_ATTEMPTS:
        _fail(post, error)
        return GaveUpError(f"{post.attempts} attempts: {_reason(error)}")
    _end(post, Status.SCHEDULED, last_error=_reason(error), sent_at=timezone.now())
    return error if isinstance(error, UnreachableError) else UnreachableError(_reason(error))


def _reason(error: Exception) -> str:
    if isinstance(error, (RejectedError, UnreachableError)):
        return str(error)[:500]
    if isinstance(error, SoftTimeLimitExceeded):
        return "took too long"
    return f"internal error ({type(error).__name__})"


def due(limit: int) -> list[str]:
    """Keys of due posts for which no task has been sent lately. They are marked as sent.

    They include at most PUBLISH_PER_OWNER posts of each owner: more could not be published at a time, and would keep
    the posts of others waiting.
    """
    now = timezone.now()
    lost = now - timedelta(seconds=settings.PUBLISH_RESEND_AFTER)
    waiting = Post.objects.filter(
        Q(sent_at__isnull=True) | Q(sent_at__lt=lost), status=Status.SCHEDULED, scheduled_at__lte=now
    )
    turn = Window(RowNumber(), partition_by="owner_id", order_by=("scheduled_at", "pk"))
    first = waiting.annotate(turn=turn).filter(turn__lte=settings.PUBLISH_PER_OWNER).order_by("scheduled_at")
    chosen = list(first.values_list("pk", flat=True)[:limit])
    with transaction.atomic():
        unlocked = waiting.select_for_update(skip_locked=True).filter(pk__in=chosen).order_by("scheduled_at")
        keys = list(unlocked.values_list("pk", flat=True))
        Post.objects.filter(pk__in=keys).update(sent_at=now)
    return [str(key) for key in keys]


def not_sent(keys: list[str]) -> None:
    Post.objects.filter(pk__in=keys, status=Status.SCHEDULED).update(sent_at=None)


def recover() -> dict[str, int]:
    """Release posts whose worker died, and fail those without attempts left. Returns the number of each."""
    long_ago = timezone.now() - timedelta(seconds=settings.PUBLISH_STUCK_AFTER)
    stuck = Post.objects.filter(status=Status.PUBLISHING, claimed_at__lt=long_ago)
    free = {"claimed_by": "", "claimed_at": None, "updated_at": timezone.now()}
    totals = {"released": 0, "failed": 0}
    for publisher in Channel.Publisher.values:
        lost = stuck.filter(channel__publisher=publisher)
        failed = lost.filter(attempts__gte=settings.PUBLISH_MAX_ATTEMPTS).update(
            status=Status.FAILED, last_error="worker lost during publishing", **free
        )
        released = lost.filter(attempts__lt=settings.PUBLISH_MAX_ATTEMPTS).update(
            status=Status.SCHEDULED, sent_at=None, last_error="worker lost", **free
        )
        POST_OUTCOMES.labels(publisher, str(Status.FAILED)).inc(failed)
        POST_OUTCOMES.labels(publisher, str(Status.SCHEDULED)).inc(released)
        totals = {"released": totals["released"] + released, "failed": totals["failed"] + failed}
    return totals
