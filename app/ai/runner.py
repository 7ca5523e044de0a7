"""Running one AI job: claim it, call the provider, store the result. Each step is safe to repeat."""

import logging
from datetime import timedelta
from typing import Any

from billiard.exceptions import SoftTimeLimitExceeded
from django.conf import settings
from django.db import transaction
from django.db.models import F, Q, QuerySet
from django.utils import timezone

from ai import fairness, providers, videos
from ai.models import AIJob, Operation
from media import services as media
from media import store
from media.images import InvalidImageError
from media.models import Asset
from media.store import StoreError
from monitoring.metrics import AI_JOBS
from posts.models import Post

log = logging.getLogger(__name__)

Status = AIJob.Status
INSTRUCTION = (
    "You write captions for social media. Answer with one caption of at most 280 characters, "
    "in the language of the request, with at most three hashtags and nothing else."
)
# How many workers in a row may die before a video is given up: more than for other jobs, because it is already paid for.
VIDEO_LOSSES = 25
# A message may arrive this much early.
EARLY = timedelta(seconds=1)


class GaveUpError(Exception):
    """The last allowed attempt has failed."""


def run(pk: str, *, again: bool = False) -> str:
    """Run the job if it is open, and return what happened.

    Args:
        again: this message was delivered before, to a worker that has died.

    Raises:
        TryLaterError: this attempt failed and another one is due.
        GaveUpError: the last attempt failed.
    """
    job = _claim(pk, again=again)
    if job is None:
        return "nothing to do"
    try:
        return _run(job)
    finally:
        fairness.send_next(job.owner_id)


def _run(job: AIJob) -> str:
    try:
        values = _ask(job)
    except videos.StillRunningError as pause:
        return _wait(job, pause)
    except videos.InDoubtError as error:
        outcome = _finish(job, Status.UNKNOWN, error=str(error)[:500])
        videos.revive(job)
        return outcome
    except (providers.RefusedError, providers.NotConfiguredError) as error:
        return _finish(job, Status.FAILED, error=str(error)[:500])
    except (providers.TryLaterError, SoftTimeLimitExceeded) as error:
        raise _again_or_fail(job, error) from error
    except Exception as error:
        _finish(job, Status.FAILED, error=f"internal error ({type(error).__name__})")
        raise
    return _succeed(job, values)


@transaction.atomic
def _claim(pk: str, *, again: bool) -> AIJob | None:
    due = Q(status=Status.QUEUED) | Q(status=Status.WAITING, sent_at=None)
    due |= Q(status=Status.WAITING, sent_at__lte=timezone.now() + EARLY)
    if again:
        due |= Q(status=Status.RUNNING)
    open_jobs = AIJob.objects.filter(due, pk=pk)
    give_up(exhausted(open_jobs), "worker lost during every attempt")
    job = open_jobs.first()
    if job is not None and job.status == Status.QUEUED and not fairness.has_turn(job.owner_id):
        fairness.postpone(job)
        return None
    claimed = open_jobs.update(status=Status.RUNNING, started_at=timezone.now(), attempts=F("attempts") + 1)
    return AIJob.objects.select_related("owner", "post").get(pk=pk) if claimed else None


def exhausted(jobs: QuerySet[AIJob]) -> QuerySet[AIJob]:
    """The jobs that have no attempts left."""
    most = F("settled_attempts") + settings.AI_MAX_ATTEMPTS
    is_video = Q(kind=AIJob.Kind.VIDEO)
    return jobs.filter(
        ~is_video & Q(attempts__gte=most) | is_video & Q(attempts__gte=F("settled_attempts") + VIDEO_LOSSES)
    )


def give_up(jobs: QuerySet[AIJob], error: str) -> int:
    """Fail jobs whose workers are dead. Returns the number of jobs."""
    failed = 0
    for kind in AIJob.Kind.values:
        ended = jobs.filter(kind=kind).update(status=Status.FAILED, error=error, finished_at=timezone.now())
        AI_JOBS.labels(kind, str(Status.FAILED)).inc(ended)
        failed += ended
    return failed


def _ask(job: AIJob) -> dict[str, Any]:
    """What the job has produced, as fields of its row."""
    if job.kind == AIJob.Kind.CAPTION:
        return {"result": providers.text_provider(job.provider).write(INSTRUCTION, job.prompt)}
    if job.kind == AIJob.Kind.IMAGE:
        return {"asset": _draw(job)}
    if job.kind == AIJob.Kind.VIDEO:
        return {"asset": videos.make(job)}
    vector = providers.embedder().embed(job.prompt)
    assert job.post_id is not None
    Post.objects.filter(pk=job.post_id).update(embedding=vector)
    return {}


def _draw(job: AIJob) -> Asset:
    """The image of a job, in the media store. One that an earlier attempt has stored is not paid for again."""
    if not store.is_configured():
        raise providers.NotConfiguredError("no media store is configured")
    try:
        content = media.uploaded(job.owner, job.pk)
        if content is None:
            content = providers.image_provider(job.provider).draw(job.prompt)
        return media.save_image(job.owner, job.pk, content)
    except InvalidImageError as error:
        raise providers.RefusedError(f"{job.provider}: {error}", "invalid_response") from error
    except StoreError as error:
        raise providers.TryLaterError(str(error), "connection_error") from error


def _wait(job: AIJob, pause: videos.StillRunningError) -> str:
    """Leave the job to the provider, and schedule the next poll."""
    with transaction.atomic():
        mine = AIJob.objects.filter(pk=job.pk, status=Status.RUNNING, attempts=job.attempts)
        if not mine.update(
            status=Status.WAITING,
            error=pause.reason[:500],
            settled_attempts=job.attempts,
            sent_at=timezone.now() + timedelta(seconds=pause.seconds),
        ):
            return "cancelled in the meantime"
        Operation.objects.filter(job=job).update(polls=F("polls") + 1)
    fairness.send_later(job, pause.seconds)
    return str(Status.WAITING)


def _succeed(job: AIJob, values: dict[str, Any]) -> str:
    """Record the result. The files of a job that was cancelled in the meantime are deleted."""
    with transaction.atomic():
        asset = values.get("asset")
        if asset is not None:
            asset.save()
        outcome = _finish(job, Status.SUCCEEDED, error="", **values)
        if outcome != Status.SUCCEEDED:
            transaction.set_rollback(True)
    if asset is not None and AIJob.objects.filter(pk=job.pk, status=Status.CANCELLED).exists():
        media.discard(job.owner_id, job.pk)
    return outcome


def _finish(job: AIJob, status: Status, **values: Any) -> str:
    """Record the outcome. A job that was cancelled in the meantime stays cancelled, and its result is discarded."""
    mine = AIJob.objects.filter(pk=job.pk, status=Status.RUNNING, attempts=job.attempts)
    if mine.update(status=status, finished_at=timezone.now(), **values):
        AI_JOBS.labels(job.kind, str(status)).inc()
        return str(status)
    return "cancelled in the meantime"


@transaction.atomic
def _again_or_fail(job: AIJob, error: Exception) -> Exception:
    reason = "took too long" if isinstance(error, SoftTimeLimitExceeded) else str(error)[:500]
    if job.attempts - job.settled_attempts >= settings.AI_MAX_ATTEMPTS:
        _finish(job, Status.FAILED, error=reason)
        return GaveUpError(f"{job.attempts} attempts: {reason}")
    AIJob.objects.filter(pk=job.pk, status=Status.RUNNING, attempts=job.attempts).update(
        status=Status.QUEUED, error=reason, sent_at=timezone.now()
    )
    return error if isinstance(error, providers.TryLaterError) else providers.TryLaterError(reason, "timeout")
