"""Generates one video: starts an operation at the provider, polls it, and fetches the result.

The provider has no idempotency key, so a request that starts an operation is never repeated unless the provider has
certainly ignored it. The intent is committed before the request, and the operation's name after it. A worker that dies in
between leaves an intent without a name, and an operation may exist. The next attempt looks for it in the provider's list of
operations. If it is not there, the job ends as `unknown`, and its owner decides whether to request another video.
"""

import logging
import time
from datetime import timedelta

from billiard.exceptions import SoftTimeLimitExceeded
from django.conf import settings
from django.db import DatabaseError, close_old_connections
from django.utils import timezone

from ai import lost_operations, providers
from ai.models import AIJob, Operation
from media import services as media
from media import store
from media.models import Asset
from media.store import StoreError
from media.videos import InvalidVideoError
from monitoring.metrics import VIDEO_SECONDS

log = logging.getLogger(__name__)

# The durations, in seconds, that Google's models offer.
SECONDS = (4, 6, 8)
LONGEST_PAUSE = 60
# Pauses between attempts to record an operation's name, in seconds. It was paid for, so a short outage must not lose it.
RECORDING = (0.5, 1, 2, 4, 8)


class StillRunningError(Exception):
    """Look again after `seconds`. `reason` says what went wrong this time, if anything."""

    def __init__(self, seconds: float, reason: str = "") -> None:
        super().__init__(reason)
        self.seconds, self.reason = seconds, reason


class InDoubtError(Exception):
    """It is not known whether an operation was started."""


def make(job: AIJob) -> Asset:
    """Take the next step towards the video of a job. Returns it when it is in the media store.

    Raises:
        StillRunningError: another step is due later.
        InDoubtError: no further step is possible.
        ProviderError, NotConfiguredError: see ai.providers.
    """
    if not store.is_configured():
        raise providers.NotConfiguredError("no media store is configured")
    provider = providers.video_provider(job.provider)
    operation = Operation.objects.filter(job=job).first()
    if operation is None:
        _start(job, provider)
        raise StillRunningError(settings.AI_VIDEO_POLL)
    if not operation.name:
        _find(job, operation, provider)
        raise StillRunningError(settings.AI_VIDEO_POLL)
    return _fetch(job, operation, provider)


def _start(job: AIJob, provider: providers.VideoProvider) -> None:
    before = lost_operations.listed(provider)
    operation, is_new = Operation.objects.get_or_create(
        job=job, defaults={"intended_at": timezone.now(), "listed_before": before}
    )
    if not is_new:
        raise StillRunningError(settings.AI_VIDEO_POLL, "another worker is starting the video")
    try:
        name = provider.start(job.prompt, job.seconds)
    except providers.UncertainError as error:
        if before is None:
            raise InDoubtError(str(error)) from error
        raise StillRunningError(settings.AI_VIDEO_POLL, str(error)) from error
    except providers.ProviderError:
        operation.delete()
        raise
    _accepted(job, name)


def _find(job: AIJob, operation: Operation, provider: providers.VideoProvider) -> None:
    """Look for the operation of a start whose outcome was lost.

    Raises:
        StillRunningError: it may still appear.
        InDoubtError: it cannot be found.
    """
    waited = timezone.now() - operation.intended_at
    if operation.listed_before is None:
        raise InDoubtError("a worker died while it started the video")
    try:
        candidates = lost_operations.candidates(operation, provider)
    except providers.TryLaterError as error:
        if waited > timedelta(seconds=settings.AI_VIDEO_DEADLINE):
            raise InDoubtError(str(error)) from error
        raise StillRunningError(LONGEST_PAUSE, str(error)) from error
    except providers.RefusedError as error:
        raise InDoubtError(str(error)) from error
    if len(candidates) == 1:
        _accepted(job, candidates.pop())
    elif candidates or waited > lost_operations.time_to_appear():
        log.warning(
            "video operation not found", extra={"job": str(job.pk), "new_operations": sorted(candidates)}
        )
        raise InDoubtError(
            f"the start of the video got no response; the provider lists {len(candidates)} new operations"
        )
    else:
        raise StillRunningError(settings.AI_VIDEO_POLL, "the start of the video got no response")


def _accepted(job: AIJob, name: str) -> None:
    # A log line too: it survives a database that does not take the name.
    log.info("video operation accepted", extra={"job": str(job.pk), "operation": name})
    VIDEO_SECONDS.labels(job.provider).inc(job.seconds)
    _record(job, name)


def _record(job: AIJob, name: str) -> None:
    for pause in (*RECORDING, None):
        try:
            adopt(job, name)
        except DatabaseError:
            if pause is None:
                raise
            log.warning(
                "name of a video operation not recorded", extra={"job": str(job.pk), "operation": name}
            )
            time.sleep(pause)
            close_old_connections()
        else:
            return


def adopt(job: AIJob, name: str) -> None:
    """Record the name of a job's operation. A job that was given up in the meantime continues."""
    Operation.objects.filter(job=job, name="").update(name=name, accepted_at=timezone.now())
    revive(job)


def revive(job: AIJob) -> None:
    """Continue a job that was given up, if its operation's name is known after all.

    It is also called after a job was given up: one of the two calls then sees what the other side has committed.
    """
    if not Operation.objects.filter(job=job).exclude(name="").exists():
        return
    AIJob.objects.filter(pk=job.pk, status=AIJob.Status.UNKNOWN).update(
        status=AIJob.Status.WAITING, error="", finished_at=None, sent_at=None
    )


def _fetch(job: AIJob, operation: Operation, provider: providers.VideoProvider) -> Asset:
    try:
        address = provider.poll(operation.name)
        if address is None:
            raise _later(operation, "")
        with provider.download(address) as chunks:
            return media.save_video(job.owner, job.pk, chunks)
    except InvalidVideoError as error:
        raise providers.RefusedError(f"{job.provider}: {error}", "invalid_response") from error
    except providers.RefusedError as error:
        # A key can be corrected, and the video is paid for.
        if error.outcome != "unauthorized":
            raise
        raise _later(operation, str(error)) from error
    except SoftTimeLimitExceeded as error:
        raise _later(operation, "the download took too long") from error
    except (providers.TryLaterError, StoreError) as error:
        raise _later(operation, str(error), getattr(error, "after", None)) from error


def _later(operation: Operation, reason: str, after: float | None = None) -> Exception:
    """The next poll, until the deadline. The pauses between polls grow."""
    assert operation.accepted_at is not None
    if timezone.now() - operation.accepted_at > timedelta(seconds=settings.AI_VIDEO_DEADLINE):
        last = reason or "the provider has not finished it"
        return providers.RefusedError(f"no video within {settings.AI_VIDEO_DEADLINE:g} s: {last}", "timeout")
    pause = min(LONGEST_PAUSE, settings.AI_VIDEO_POLL * 1.5 ** min(operation.polls, 20))
    return StillRunningError(max(pause, min(after or 0, settings.TASK_LONGEST_BACKOFF)), reason)
