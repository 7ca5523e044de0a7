"""AI jobs: run once, cancelled, retried, recovered when lost."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from ai import runner, services
from ai.models import AIJob
from ai.providers import TryLaterError

pytestmark = pytest.mark.django_db


@pytest.fixture
def make_job(user: Any) -> Callable[..., Any]:
    def make(**values: Any) -> Any:
        defaults = {"kind": "caption", "provider": "sandbox", "prompt": "Coffee", "sent_at": timezone.now()}
        return AIJob.objects.create(owner=user, **defaults | values)

    return make


def test_a_caption_is_written_once(make_job: Callable[..., Any]) -> None:
    job = make_job()
    assert runner.run(str(job.pk)) == "succeeded"
    assert runner.run(str(job.pk)) == runner.run(str(job.pk), again=True) == "nothing to do"
    job.refresh_from_db()
    assert "Coffee" in job.result
    assert (job.attempts, job.finished_at is not None) == (1, True)


def test_an_embedding_is_saved_on_the_post(
    make_job: Callable[..., Any], make_post: Callable[..., Any]
) -> None:
    post = make_post(status="published")
    assert runner.run(str(make_job(kind="embedding", post=post, prompt=post.text).pk)) == "succeeded"
    post.refresh_from_db()
    assert len(post.embedding) == 768


def test_a_running_job_is_taken_over_only_from_a_dead_worker(make_job: Callable[..., Any]) -> None:
    job = make_job(status="running", attempts=1, started_at=timezone.now())
    assert runner.run(str(job.pk)) == "nothing to do"
    assert runner.run(str(job.pk), again=True) == "succeeded"


def test_a_job_that_kills_every_worker_ends_as_failed(
    make_job: Callable[..., Any], settings: Any, counter: Callable[..., Any]
) -> None:
    job = make_job(status="running", attempts=settings.AI_MAX_ATTEMPTS)
    counted = counter("posthub_ai_jobs_total", kind="caption", status="failed")
    assert runner.run(str(job.pk), again=True) == "nothing to do"
    assert counter("posthub_ai_jobs_total", kind="caption", status="failed") == counted + 1
    job.refresh_from_db()
    assert (job.status, job.error) == ("failed", "worker lost during every attempt")


def test_a_cancelled_job_stays_cancelled_when_the_answer_arrives(
    make_job: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_job()

    def meanwhile(self: Any, instruction: Any, prompt: Any) -> Any:
        services.cancel(job)
        return "too late"

    monkeypatch.setattr("ai.providers.sandbox.Sandbox.write", meanwhile)
    assert runner.run(str(job.pk)) == "cancelled in the meantime"
    job.refresh_from_db()
    assert (job.status, job.result) == ("cancelled", "")


def test_a_refusal_fails_the_job_but_not_the_task(make_job: Callable[..., Any]) -> None:
    job = make_job(prompt="[sandbox:reject]")
    assert runner.run(str(job.pk)) == "failed"
    job.refresh_from_db()
    assert "refuse" in job.error


def test_a_provider_that_lost_its_key_fails_the_job(make_job: Callable[..., Any]) -> None:
    assert runner.run(str(make_job(provider="gemini").pk)) == "failed"


def test_a_temporary_failure_is_retried_and_then_given_up(
    make_job: Callable[..., Any], settings: Any
) -> None:
    settings.AI_MAX_ATTEMPTS = 2
    job = make_job(prompt="[sandbox:unreachable]")
    with pytest.raises(TryLaterError):
        runner.run(str(job.pk))
    job.refresh_from_db()
    assert job.status == "queued"
    with pytest.raises(runner.GaveUpError):
        runner.run(str(job.pk))
    job.refresh_from_db()
    assert (job.status, job.attempts) == ("failed", 2)


def test_an_embedding_is_requested_only_if_a_provider_makes_them(
    make_post: Callable[..., Any], settings: Any, messages: Callable[[str], list[Any]]
) -> None:
    assert services.request_embedding(make_post()) is not None
    settings.SANDBOX_ALLOWED = False
    assert services.request_embedding(make_post()) is None


def test_lost_and_stuck_jobs_are_recovered(
    make_job: Callable[..., Any],
    settings: Any,
    messages: Callable[[str], list[Any]],
    counter: Callable[..., Any],
) -> None:
    stuck = timezone.now() - timedelta(seconds=settings.AI_STUCK_AFTER + 1)
    lost = timezone.now() - timedelta(seconds=settings.AI_RESEND_AFTER + 1)
    resent = {
        make_job(sent_at=None).pk,
        make_job(sent_at=lost).pk,
        make_job(status="running", started_at=stuck, attempts=1).pk,
    }
    exhausted = make_job(status="running", started_at=stuck, attempts=settings.AI_MAX_ATTEMPTS)
    make_job()
    make_job(status="running", started_at=timezone.now(), attempts=1)
    counted = counter("posthub_ai_jobs_total", kind="caption", status="failed")
    assert services.recover() == {"failed": 1, "resent": 3}
    assert counter("posthub_ai_jobs_total", kind="caption", status="failed") == counted + 1
    assert {message.args[0] for message in messages("ai_jobs")} == {str(pk) for pk in resent}
    exhausted.refresh_from_db()
    assert exhausted.status == "failed"
    assert services.recover() == {"failed": 0, "resent": 0}


def test_old_jobs_are_deleted(make_job: Callable[..., Any], settings: Any) -> None:
    make_job(
        status="succeeded", finished_at=timezone.now() - timedelta(days=settings.AI_JOB_RETENTION_DAYS + 1)
    )
    kept = make_job(status="succeeded", finished_at=timezone.now())
    assert services.forget() == 1
    assert AIJob.objects.get() == kept


def test_housekeeping_runs_when_there_is_nothing_to_do(messages: Callable[[str], list[Any]]) -> None:
    from monitoring.tasks import housekeeping

    assert housekeeping()["posts"] == {"released": 0, "failed": 0}
