"""Requesting AI jobs, cancelling them, and recovering lost ones."""

import logging
from datetime import timedelta
from functools import partial

from celery import current_app
from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.utils import timezone
from kombu.exceptions import OperationalError

from accounts.models import User
from ai import providers, quotas
from ai.fairness import send
from ai.models import AIJob
from ai.runner import exhausted, give_up
from config.errors import Conflict, Unavailable
from media import store
from posts.models import Post

log = logging.getLogger(__name__)

Status = AIJob.Status
RESEND = 500
# A poll of a video that is overdue by this multiple of the shortest pause was lost, with its worker and its message.
OVERDUE_PAUSES = 12


def request_caption(owner: User, prompt: str, *, provider: str = "", post: Post | None = None) -> AIJob:
    names = providers.available()
    if not names:
        raise Unavailable("No AI provider is configured.", code="no_provider")
    return _create(owner, AIJob.Kind.CAPTION, prompt, provider or names[0], post)


def request_image(owner: User, prompt: str, *, post: Post | None = None) -> AIJob:
    """Request an image. Its bytes go to the media store.

    Raises:
        Unavailable: no provider, or no media store, is configured.
        QuotaExceeded: the plan allows no more images today.
    """
    name = providers.image_provider_name()
    if name is None:
        raise Unavailable("No AI provider for images is configured.", code="no_image_provider")
    if not store.is_configured():
        raise Unavailable("No media store is configured.", code="no_media_store")
    return _create(owner, AIJob.Kind.IMAGE, prompt, name, post)


def request_video(owner: User, prompt: str, *, seconds: int, post: Post | None = None) -> AIJob:
    """Request a video. Its bytes go to the media store.

    Raises:
        Unavailable: no provider, or no media store, is configured.
        QuotaExceeded: the plan does not allow that many more seconds today.
    """
    name = providers.video_provider_name()
    if name is None:
        raise Unavailable("No AI provider for videos is configured.", code="no_video_provider")
    if not store.is_configured():
        raise Unavailable("No media store is configured.", code="no_media_store")
    return _create(owner, AIJob.Kind.VIDEO, prompt, name, post, seconds=seconds)


def request_embedding(post: Post) -> AIJob | None:
    """Request an embedding if a provider can make one. Posts are published without one too."""
    try:
        name = providers.embedder().name
    except providers.NotConfiguredError:
        return None
    return _create(post.owner, AIJob.Kind.EMBEDDING, post.text, name, post)


@transaction.atomic
def _create(
    owner: User, kind: AIJob.Kind, prompt: str, provider: str, post: Post | None, *, seconds: int = 0
) -> AIJob:
    if kind in quotas.KINDS:
        quotas.require(owner, kind, seconds or 1)
    job = AIJob.objects.create(
        owner=owner,
        kind=kind,
        prompt=prompt,
        provider=provider,
        post=post,
        seconds=seconds,
        priority=owner.is_paying,
        sent_at=timezone.now(),
    )
    transaction.on_commit(partial(send, job))
    return job


@transaction.atomic
def cancel(job: AIJob) -> AIJob:
    job = AIJob.objects.select_for_update().get(pk=job.pk)
    if job.status not in (Status.QUEUED, Status.RUNNING, Status.WAITING):
        raise Conflict(f"A job that is {job.status} cannot be cancelled.", code="wrong_status")
    job.status, job.finished_at = Status.CANCELLED, timezone.now()
    job.save(update_fields=["status", "finished_at"])
    transaction.on_commit(partial(_revoke, str(job.pk)))
    return job


def _revoke(task_id: str) -> None:
    """Make workers discard the message. The row alone already prevents the job from running."""
    try:
        current_app.control.revoke(task_id)
    except OperationalError:
        log.warning("job cancelled, but workers could not be notified", extra={"job": task_id})


def recover() -> dict[str, int]:
    """Send jobs again whose message or worker was lost, as long as they have attempts left."""
    long_ago = timezone.now() - timedelta(seconds=settings.AI_STUCK_AFTER)
    stuck = AIJob.objects.filter(status=Status.RUNNING, started_at__lt=long_ago)
    failed = give_up(exhausted(stuck), "worker lost")
    stuck.update(status=Status.QUEUED, sent_at=None)
    return {"failed": failed, "resent": _resend()}


def _resend() -> int:
    long_ago = timezone.now() - timedelta(seconds=settings.AI_RESEND_AFTER)
    overdue = timezone.now() - timedelta(seconds=settings.AI_VIDEO_POLL * OVERDUE_PAUSES)
    lost = AIJob.objects.filter(
        Q(status__in=(Status.QUEUED, Status.WAITING), sent_at__isnull=True)
        | Q(status=Status.QUEUED, sent_at__lt=long_ago)
        | Q(status=Status.WAITING, sent_at__lt=overdue)
    )
    with transaction.atomic():
        jobs = list(lost.select_for_update(skip_locked=True).order_by("created_at")[:RESEND])
        AIJob.objects.filter(pk__in=[job.pk for job in jobs]).update(sent_at=timezone.now())
    return sum(send(job) for job in jobs)


def forget() -> int:
    """Delete finished jobs that are older than the retention. Returns the number of rows deleted."""
    oldest = timezone.now() - timedelta(days=settings.AI_JOB_RETENTION_DAYS)
    deleted, _ = AIJob.objects.filter(finished_at__lt=oldest).delete()
    return deleted
