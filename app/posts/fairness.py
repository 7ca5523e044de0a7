"""Keeps one customer, or one host, from occupying all workers: a limit per owner, and circuit breakers.

At most PUBLISH_PER_OWNER posts of a customer are published at the same time, across all workers. Another post waits
in the database, not in a worker: the end of each publication sends the next one, and beat finds those left over.
"""

import hashlib
import logging
from datetime import timedelta
from urllib.parse import urlsplit

from django.conf import settings
from django.core.cache import cache
from django.db import DatabaseError, connection, transaction
from django.utils import timezone

from config.sending import enqueue
from monitoring.metrics import POSTPONED
from posts.models import Post
from posts.publishers import NoAnswerError, Publisher, UnreachableError

log = logging.getLogger(__name__)

Status = Post.Status

# Hard time limit of a publishing task, in seconds. A post claimed longer ago is no longer in publication.
TIME_LIMIT = 75

# After this number of consecutive calls without a response, a host is not called for a while; durations in seconds.
FAILURES = 5
# After this number of owners that got no answer in this way, it is not called for anyone for a while.
OWNERS = 3
OPEN_SECONDS = 30
COUNT_SECONDS = 600


def has_turn(post: Post) -> bool:
    """Whether the owner has fewer posts in publication than allowed. Call it in the transaction of the claim.

    Claims of one owner take turns until the end of their transactions, so that two of them cannot both take the last
    place. A post whose worker died counts until the time limit of its task.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"publishing:{post.owner_id}"]
        )
    alive = timezone.now() - timedelta(seconds=TIME_LIMIT)
    active = Post.objects.filter(owner_id=post.owner_id, status=Status.PUBLISHING, claimed_at__gte=alive)
    return active.count() < settings.PUBLISH_PER_OWNER


def postpone(post: Post) -> None:
    """Let the post wait until another post of its owner has ended."""
    post.sent_at = None
    post.save(update_fields=["sent_at", "updated_at"])
    POSTPONED.labels("owner_limit").inc()


def send_next(owner_id: int) -> bool:
    """Send a task for the owner's waiting post that has been due for the longest time. Returns whether one was sent.

    Never raises for a database that is unavailable: the result of the published post matters more, and beat sends the next one anyway.
    """
    try:
        post = _take_next(owner_id)
    except DatabaseError:
        log.exception("next post not sent, beat will send it", extra={"owner": owner_id})
        return False
    if post is None:
        return False
    unsent = Post.objects.filter(pk=post.pk, status=Status.SCHEDULED)
    return enqueue(
        "posts.tasks.publish_scheduled", str(post.pk), on_failure=lambda: unsent.update(sent_at=None)
    )


def _take_next(owner_id: int) -> Post | None:
    with transaction.atomic():
        waiting = Post.objects.filter(
            owner_id=owner_id, status=Status.SCHEDULED, scheduled_at__lte=timezone.now(), sent_at__isnull=True
        )
        post = waiting.select_for_update(skip_locked=True).order_by("scheduled_at").first()
        if post is not None:
            Post.objects.filter(pk=post.pk).update(sent_at=timezone.now())
        return post


class CircuitBreaker:
    """A publisher that stops calling a host which does not answer, and tries it again after OPEN_SECONDS.

    Each owner has their own circuit for a host. Those of OWNERS owners together open the circuit of the host, so that the
    posts of many customers do not wait for it one after the other. A response of any kind closes both. So owners whose
    addresses do not answer can delay the posts of others on the same host only once, for OPEN_SECONDS.
    The state is in the cache; without Redis, every host is called.
    """

    def __init__(self, publisher: Publisher, owner_id: int, url: str) -> None:
        self._publisher = publisher
        host = urlsplit(url).netloc.rpartition("@")[2].casefold()
        self._open, self._count = _keys(f"{owner_id} {host}")
        self._host_open, self._owners = _keys(host)

    def publish(self, post: Post) -> str:
        """Publish the post.

        Raises:
            UnreachableError: the circuit is open, or as the publisher does.
        """
        if cache.get(self._open) or cache.get(self._host_open):
            POSTPONED.labels("circuit_open").inc()
            raise UnreachableError(
                "the webhook's host did not answer several times; it is called again later"
            )
        try:
            result = self._publisher.publish(post)
        except NoAnswerError:
            self._failed()
            raise
        except Exception:
            self._answered()
            raise
        self._answered()
        return result

    def _failed(self) -> None:
        failures = _increment(self._count)
        if failures < FAILURES:
            return
        cache.set(self._open, True, timeout=OPEN_SECONDS)
        # Each owner counts once, however long the host does not answer.
        owners = _increment(self._owners) if failures == FAILURES else cache.get(self._owners) or 0
        if owners >= OWNERS:
            cache.set(self._host_open, True, timeout=OPEN_SECONDS)

    def _answered(self) -> None:
        cache.delete_many([self._count, self._owners, self._host_open])


def _keys(subject: str) -> tuple[str, str]:
    """The names of the mark that a circuit is open, and of its counter."""
    digest = hashlib.sha256(subject.encode()).hexdigest()
    return f"circuit:{digest}:open", f"circuit:{digest}:failures"


def _increment(key: str) -> int:
    cache.add(key, 0, timeout=COUNT_SECONDS)
    try:
        return cache.incr(key) or 0
    except ValueError:  # it expired in between
        return 0
