"""Publishing a post: run twice, run concurrently, interrupted, given up."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from billiard.exceptions import SoftTimeLimitExceeded
from django.db import connection, connections, transaction
from django.db.utils import IntegrityError
from django.utils import timezone
from rest_framework.test import APIClient

from config.sending import backoff, enqueue
from posts import publication, services, tasks
from posts.models import Post
from posts.publishers import UnreachableError
from posts.publishers.sandbox import SandboxPublisher
from stack.wait import wait_for

pytestmark = pytest.mark.django_db


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The posts that the publisher was called with."""
    seen = []
    original = SandboxPublisher.publish

    def publish(self: Any, post: Any) -> Any:
        seen.append(post.pk)
        return original(self, post)

    monkeypatch.setattr(SandboxPublisher, "publish", publish)
    return seen


def test_a_post_is_published_once_even_if_its_task_runs_again(
    make_post: Callable[..., Any],
    calls: list[Any],
    messages: Callable[[str], list[Any]],
    run_on_commit: Callable[[], Any],
) -> None:
    post = make_post(status="scheduled")
    with run_on_commit():
        assert publication.publish(str(post.pk), "task-1") == "published"
        assert publication.publish(str(post.pk), "task-1") == "nothing to do"
        assert publication.publish(str(post.pk), "task-2") == "nothing to do"
    post.refresh_from_db()
    assert (post.status, post.attempts, post.claimed_by) == ("published", 1, "")
    assert post.external_id.startswith("sandbox-")
    assert calls == [post.pk]
    assert [message.task for message in messages("default")] == ["posts.tasks.refresh_channel"]
    assert [message.task for message in messages("ai_jobs")] == ["ai.tasks.run_job"]


@pytest.mark.parametrize("status", ["draft", "publishing", "published", "failed"])
def test_only_a_scheduled_post_is_published(
    make_post: Callable[..., Any], calls: list[Any], status: str
) -> None:
    assert publication.publish(str(make_post(status=status).pk), "task-1") == "nothing to do"
    assert calls == []


def test_a_post_moved_into_the_future_waits(make_post: Callable[..., Any], calls: list[Any]) -> None:
    post = make_post(status="scheduled", scheduled_at=timezone.now() + timedelta(hours=1))
    assert publication.publish(str(post.pk), "stale-message") == "nothing to do"


def test_a_deleted_post_needs_nothing(make_post: Callable[..., Any]) -> None:
    post = make_post()
    key = str(post.pk)
    post.delete()
    assert publication.publish(key, "task-1") == "nothing to do"


def test_the_same_message_delivered_again_continues(make_post: Callable[..., Any], calls: list[Any]) -> None:
    post = make_post(status="publishing", claimed_by="task-1", claimed_at=timezone.now(), attempts=1)
    assert publication.publish(str(post.pk), "task-2") == "nothing to do"
    assert publication.publish(str(post.pk), "task-1") == "published"


def test_a_message_that_kills_every_worker_ends_as_failed(
    make_post: Callable[..., Any], calls: list[Any], settings: Any
) -> None:
    post = make_post(
        status="publishing",
        claimed_by="task-1",
        claimed_at=timezone.now(),
        attempts=settings.PUBLISH_MAX_ATTEMPTS,
    )
    assert publication.publish(str(post.pk), "task-1") == "nothing to do"
    post.refresh_from_db()
    assert (post.status, post.last_error, calls) == ("failed", "worker lost during every attempt", [])


def test_a_rejected_post_fails_at_once(make_post: Callable[..., Any]) -> None:
    post = make_post(status="scheduled", text="[sandbox:reject]")
    assert publication.publish(str(post.pk), "task-1") == "failed"
    post.refresh_from_db()
    assert (post.status, post.attempts) == ("failed", 1)
    assert "reject" in post.last_error


def test_an_unreachable_receiver_is_retried_and_then_given_up(
    make_post: Callable[..., Any], settings: Any
) -> None:
    settings.PUBLISH_MAX_ATTEMPTS = 3
    post = make_post(status="scheduled", text="[sandbox:unreachable]")
    for attempt in (1, 2):
        with pytest.raises(UnreachableError):
            publication.publish(str(post.pk), "task-1")
        post.refresh_from_db()
        assert (post.status, post.attempts) == ("scheduled", attempt)
    with pytest.raises(publication.GaveUpError, match="3 attempts"):
        publication.publish(str(post.pk), "task-1")
    post.refresh_from_db()
    assert post.status == "failed"


def test_running_out_of_time_counts_as_unreachable(
    make_post: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_long(self: Any, post: Any) -> None:
        raise SoftTimeLimitExceeded

    monkeypatch.setattr(SandboxPublisher, "publish", too_long)
    post = make_post(status="scheduled")
    with pytest.raises(UnreachableError, match="too long"):
        publication.publish(str(post.pk), "task-1")
    post.refresh_from_db()
    assert (post.status, post.last_error) == ("scheduled", "took too long")


def test_a_programming_error_fails_the_post_and_the_task(
    make_post: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SandboxPublisher, "publish", lambda self, post: 1 / 0)
    post = make_post(status="scheduled")
    with pytest.raises(ZeroDivisionError):
        publication.publish(str(post.pk), "task-1")
    post.refresh_from_db()
    assert (post.status, post.last_error) == ("failed", "internal error (ZeroDivisionError)")


def test_a_task_that_lost_its_claim_records_no_outcome(
    make_post: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sweeper released the post while its first worker, believed dead, was still publishing it."""

    def meanwhile(self: Any, post: Any) -> Any:
        Post.objects.filter(pk=post.pk).update(claimed_by="someone-else")
        return "late"

    monkeypatch.setattr(SandboxPublisher, "publish", meanwhile)
    post = make_post(status="scheduled")
    publication.publish(str(post.pk), "task-1")
    post.refresh_from_db()
    assert (post.status, post.claimed_by, post.external_id) == ("publishing", "someone-else", "")


def test_in_production_the_sandbox_does_not_publish(
    make_post: Callable[..., Any], calls: list[Any], settings: Any
) -> None:
    settings.SANDBOX_ALLOWED = False
    post = make_post(status="scheduled")
    assert publication.publish(str(post.pk), "task-1") == "failed"
    post.refresh_from_db()
    assert post.last_error == "the sandbox publisher is only available in development"
    assert calls == []


def test_a_receiver_that_fails_does_not_fail_the_task(
    make_post: Callable[..., Any],
    messages: Callable[[str], list[Any]],
    run_on_commit: Callable[[], Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    from posts.signals import post_published

    def broken(**_: Any) -> None:
        raise ZeroDivisionError

    post = make_post(status="scheduled")
    post_published.connect(broken)
    try:
        with run_on_commit():
            assert publication.publish(str(post.pk), "task-1") == "published"
    finally:
        post_published.disconnect(broken)
    assert "ZeroDivisionError" in caplog.text
    # The other receiver was called nevertheless.
    assert [message.task for message in messages("ai_jobs")] == ["ai.tasks.run_job"]


def test_a_task_without_a_route_is_never_sent() -> None:
    with pytest.raises(KeyError, match=r"posts\.tasks\.nonsense"):
        enqueue("posts.tasks.nonsense")


def test_back_off_doubles_up_to_its_limit() -> None:
    waits = [backoff(retries, 10) for retries in range(8)]
    for wait, most in zip(waits, (10, 20, 40, 80, 160, 300, 300, 300), strict=True):
        assert 0.75 * most <= wait <= most


def test_a_retried_task_is_delayed_on_the_same_queue(
    make_post: Callable[..., Any], messages: Callable[[str], list[Any]]
) -> None:
    post = make_post(status="scheduled", text="[sandbox:unreachable]")
    tasks.publish_scheduled.apply_async((str(post.pk),))
    (message,) = messages("scheduled")
    tasks.publish_scheduled.push_request(
        id=message.id,
        args=message.args,
        retries=0,
        delivery_info={"routing_key": "scheduled"},
        called_directly=False,
    )
    from celery.exceptions import Retry

    try:
        with pytest.raises(Retry):
            tasks.publish_scheduled.run(str(post.pk))
    finally:
        tasks.publish_scheduled.pop_request()
    first, again = messages("scheduled")
    assert (again.id, again.args) == (first.id, first.args)
    assert again.eta is not None


class TestDue:
    def test_each_due_post_is_sent_once(
        self, make_post: Callable[..., Any], messages: Callable[[str], list[Any]]
    ) -> None:
        due = make_post(status="scheduled", scheduled_at=timezone.now() - timedelta(minutes=1))
        make_post(status="scheduled", scheduled_at=timezone.now() + timedelta(minutes=1))
        make_post(status="draft")
        assert tasks.publish_due() == 1
        assert tasks.publish_due() == 0
        (message,) = messages("scheduled")
        assert (message.task, message.args) == ("posts.tasks.publish_scheduled", (str(due.pk),))

    def test_a_lost_message_is_sent_again(
        self, make_post: Callable[..., Any], messages: Callable[[str], list[Any]], settings: Any
    ) -> None:
        long_ago = timezone.now() - timedelta(seconds=settings.PUBLISH_RESEND_AFTER + 1)
        make_post(status="scheduled", sent_at=long_ago)
        assert tasks.publish_due() == 1

    def test_without_a_broker_nothing_is_lost(
        self, make_post: Callable[..., Any], broken_broker: Any
    ) -> None:
        post = make_post(status="scheduled")
        assert tasks.publish_due() == 0
        post.refresh_from_db()
        assert (post.status, post.sent_at) == ("scheduled", None)

    def test_publish_now_without_a_broker_is_left_to_beat(
        self,
        api: APIClient,
        make_post: Callable[..., Any],
        broken_broker: Any,
        run_on_commit: Callable[[], Any],
    ) -> None:
        from monitoring.metrics import ENQUEUE_FAILURES

        counter = ENQUEUE_FAILURES.labels("posts.tasks.publish_now")._value
        before, post = counter.get(), make_post()
        with run_on_commit():
            assert api.post(f"/api/v1/posts/{post.pk}/publish/").status_code == 202
        assert counter.get() == before + 1
        assert publication.due(10) == [str(post.pk)]


@pytest.fixture
def broken_broker(broker_url: Any) -> Iterator[None]:
    """The broker's address has no server."""
    import kombu.pools

    from config import celery_app

    app: Any = celery_app

    def move(url: str) -> None:
        app.conf.broker_url = url
        kombu.pools.reset()
        app._pool = None
        app.amqp._producer_pool = None

    move("redis://127.0.0.1:1/0")
    yield
    move(broker_url)


class TestSweeper:
    def stuck(self, make_post: Callable[..., Any], settings: Any, **values: Any) -> Any:
        claimed_at = timezone.now() - timedelta(seconds=settings.PUBLISH_STUCK_AFTER + 1)
        return make_post(status="publishing", claimed_by="dead", claimed_at=claimed_at, **values)

    def test_a_stuck_post_is_released_and_sent_by_the_next_tick(
        self, make_post: Callable[..., Any], settings: Any, messages: Callable[[str], list[Any]]
    ) -> None:
        post = self.stuck(make_post, settings, attempts=1)
        assert publication.recover() == {"released": 1, "failed": 0}
        assert publication.recover() == {"released": 0, "failed": 0}
        assert publication.due(10) == [str(post.pk)]

    def test_after_the_last_attempt_it_fails_and_is_counted(
        self, make_post: Callable[..., Any], settings: Any, counter: Callable[..., Any]
    ) -> None:
        post = self.stuck(make_post, settings, attempts=settings.PUBLISH_MAX_ATTEMPTS)
        counted = counter("posthub_publish_attempts_total", publisher="sandbox", status="failed")
        assert publication.recover() == {"released": 0, "failed": 1}
        assert counter("posthub_publish_attempts_total", publisher="sandbox", status="failed") == counted + 1
        post.refresh_from_db()
        assert (post.status, post.last_error) == ("failed", "worker lost during publishing")

    def test_a_post_of_a_live_worker_is_not_touched(self, make_post: Callable[..., Any]) -> None:
        make_post(status="publishing", claimed_by="alive", claimed_at=timezone.now(), attempts=1)
        assert publication.recover() == {"released": 0, "failed": 0}


def test_a_channels_totals_are_recalculated(make_post: Callable[..., Any], channel: Any) -> None:
    newest = timezone.now()
    make_post(status="published", published_at=newest - timedelta(days=1))
    make_post(status="published", published_at=newest)
    make_post()
    for _ in range(2):
        tasks.refresh_channel(str(channel.pk))
    channel.refresh_from_db()
    assert (channel.published_count, channel.last_published_at) == (2, newest)


@pytest.mark.parametrize("broken", [{"status": "scheduled"}, {"status": "published"}])
def test_the_database_refuses_states_without_their_time(
    channel: Any, user: Any, broken: dict[str, Any]
) -> None:
    with pytest.raises(IntegrityError):
        Post.objects.create(owner=user, channel=channel, text="x", **broken)


@pytest.mark.django_db(transaction=True)
def test_two_workers_at_once_publish_once(
    make_post: Callable[..., Any], calls: list[Any], messages: Callable[[str], list[Any]]
) -> None:
    """Real transactions in real threads, all started at once on one post."""
    post = make_post(status="scheduled")
    start, results = threading.Barrier(6), []

    def work(number: Any) -> None:
        start.wait()
        try:
            results.append(publication.publish(str(post.pk), f"task-{number}"))
        finally:
            connection.close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == ["nothing to do"] * 5 + ["published"]
    assert calls == [post.pk]


@pytest.mark.django_db(transaction=True)
def test_cancelling_races_with_publishing_and_one_wins(
    make_post: Callable[..., Any], calls: list[Any], messages: Callable[[str], list[Any]]
) -> None:
    from config.errors import Conflict

    post = make_post(status="scheduled")
    start, outcomes = threading.Barrier(2), {}

    def run(name: str, act: Callable[[], object]) -> None:
        start.wait()
        try:
            outcomes[name] = act()
        except Conflict:
            outcomes[name] = "conflict"
        finally:
            connection.close()

    threads = [
        threading.Thread(target=run, args=("cancel", lambda: services.cancel(post).status)),
        threading.Thread(target=run, args=("publish", lambda: publication.publish(str(post.pk), "task-1"))),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    post.refresh_from_db()
    if outcomes["cancel"] == "conflict":
        assert (outcomes["publish"], post.status) == ("published", "published")
    else:
        # It saw the draft, at once or after waiting for the lock.
        assert (outcomes["publish"], post.status, calls) == ("nothing to do", "draft", [])


@pytest.fixture
def other() -> Iterator[Any]:
    """Runs functions on a connection separate from the test's."""
    with ThreadPoolExecutor(1) as pool:
        yield pool
        pool.submit(connections.close_all)


def waits_for_us() -> Any:
    """Whether another connection waits for a lock that this one holds."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY(pg_blocking_pids(pid))"
        )
        return cursor.fetchone()[0]


@pytest.mark.django_db(transaction=True)
def test_a_post_that_is_being_edited_is_published_after_the_edit(
    make_post: Callable[..., Any], calls: list[Any], messages: Callable[[str], list[Any]], other: Any
) -> None:
    post = make_post(status="scheduled", sent_at=timezone.now())
    with transaction.atomic():
        services.edit(post, {"text": "better"})
        task = other.submit(tasks.publish_now.apply, (str(post.pk),))
        wait_for(
            lambda: waits_for_us() or task.done(), timeout=10, what="the wait for the edit", hint="_claim"
        )
        assert not task.done()
    assert task.result(10).get() == "published"
    post.refresh_from_db()
    assert (post.status, post.text, post.attempts, calls) == ("published", "better", 1, [post.pk])


@pytest.mark.django_db(transaction=True)
def test_a_post_that_stays_locked_is_tried_again_later(
    make_post: Callable[..., Any],
    calls: list[Any],
    messages: Callable[[str], list[Any]],
    other: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(publication, "LOCK_TIMEOUT", "50ms")
    post = make_post(status="scheduled")
    with transaction.atomic():
        services.edit(post, {"text": "better"})
        with pytest.raises(UnreachableError, match="LockNotAvailable"):
            other.submit(publication.publish, str(post.pk), "task-1").result(10)
    post.refresh_from_db()
    assert (post.status, post.attempts, calls) == ("scheduled", 0, [])
    assert publication.publish(str(post.pk), "task-1") == "published"
