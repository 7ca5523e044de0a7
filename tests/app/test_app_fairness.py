"""One customer's slow or dead webhook does not hold up the posts of others."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from posts import fairness, publication
from posts.models import Post
from posts.publishers import NoAnswerError, RejectedError, UnreachableError
from posts.publishers.sandbox import SandboxPublisher
from stack.wait import wait_for

pytestmark = pytest.mark.django_db


@pytest.fixture
def other_channel(make_user: Callable[..., Any]) -> Any:
    return make_user("bob").channels.create(name="Other", publisher="sandbox")


def in_publication(make_post: Callable[..., Any], number: int = 1, **values: Any) -> Any:
    return [
        make_post(
            status="publishing", claimed_by=f"task-{n}", claimed_at=timezone.now(), attempts=1, **values
        )
        for n in range(number)
    ]


class TestOwnerLimit:
    def test_a_post_beyond_the_limit_waits_in_the_database(
        self,
        make_post: Callable[..., Any],
        other_channel: Any,
        messages: Callable[[str], list[Any]],
        settings: Any,
        counter: Callable[..., Any],
    ) -> None:
        in_publication(make_post, settings.PUBLISH_PER_OWNER)
        post = make_post(status="scheduled", sent_at=timezone.now())
        counted = counter("posthub_publish_postponed_total", reason="owner_limit")
        assert publication.publish(str(post.pk), "task-x") == "nothing to do"
        post.refresh_from_db()
        assert (post.status, post.sent_at, post.attempts) == ("scheduled", None, 0)
        assert counter("posthub_publish_postponed_total", reason="owner_limit") == counted + 1
        # Another customer's post is published meanwhile.
        theirs = make_post(status="scheduled", channel=other_channel)
        assert publication.publish(str(theirs.pk), "task-y") == "published"

    def test_the_end_of_a_publication_sends_the_post_that_waits_longest(
        self, make_post: Callable[..., Any], messages: Callable[[str], list[Any]], settings: Any
    ) -> None:
        settings.PUBLISH_PER_OWNER = 1
        now = timezone.now()
        later = make_post(status="scheduled", scheduled_at=now - timedelta(minutes=1))
        first = make_post(status="scheduled", scheduled_at=now - timedelta(minutes=2))
        make_post(status="scheduled", scheduled_at=now + timedelta(minutes=2))
        post = make_post(status="scheduled", sent_at=now)
        assert publication.publish(str(post.pk), "task-1") == "published"
        assert [message.args for message in messages("scheduled")] == [(str(first.pk),)]
        assert publication.publish(str(first.pk), "task-2") == "published"
        assert [message.args[0] for message in messages("scheduled")] == [str(first.pk), str(later.pk)]

    @pytest.mark.parametrize("text", ["[sandbox:reject]", "[sandbox:unreachable]"])
    def test_a_failed_publication_sends_the_next_one_as_well(
        self, make_post: Callable[..., Any], messages: Callable[[str], list[Any]], text: str
    ) -> None:
        waiting = make_post(status="scheduled")
        post = make_post(status="scheduled", text=text, sent_at=timezone.now())
        with contextlib.suppress(UnreachableError):
            publication.publish(str(post.pk), "task-1")
        assert [message.args for message in messages("scheduled")] == [(str(waiting.pk),)]

    def test_a_message_delivered_again_continues_within_its_place(
        self, make_post: Callable[..., Any], messages: Callable[[str], list[Any]], settings: Any
    ) -> None:
        settings.PUBLISH_PER_OWNER = 1
        (post,) = in_publication(make_post)
        assert publication.publish(str(post.pk), "task-0") == "published"

    def test_a_dead_workers_post_frees_its_place_after_the_time_limit(
        self, make_post: Callable[..., Any], messages: Callable[[str], list[Any]], settings: Any
    ) -> None:
        settings.PUBLISH_PER_OWNER = 1
        long_ago = timezone.now() - timedelta(seconds=fairness.TIME_LIMIT + 1)
        make_post(status="publishing", claimed_by="dead", claimed_at=long_ago)
        assert publication.publish(str(make_post(status="scheduled").pk), "task-1") == "published"

    def test_due_posts_of_one_customer_leave_room_for_others(
        self, make_post: Callable[..., Any], other_channel: Any, settings: Any
    ) -> None:
        old = timezone.now() - timedelta(hours=1)
        mine = [make_post(status="scheduled", scheduled_at=old) for _ in range(30)]
        theirs = make_post(status="scheduled", channel=other_channel)
        chosen = publication.due(10)
        assert len(chosen) == settings.PUBLISH_PER_OWNER + 1
        assert str(theirs.pk) in chosen
        assert set(chosen) - {str(theirs.pk)} <= {str(post.pk) for post in mine}

    def test_without_a_broker_the_next_post_is_left_to_beat(
        self,
        make_post: Callable[..., Any],
        messages: Callable[[str], list[Any]],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        from kombu.exceptions import OperationalError

        def broken(*_: Any, **__: Any) -> None:
            raise OperationalError

        waiting = make_post(status="scheduled")
        monkeypatch.setattr("config.sending.current_app.send_task", broken)
        assert not fairness.send_next(waiting.owner_id)
        waiting.refresh_from_db()
        assert waiting.sent_at is None


@pytest.mark.django_db(transaction=True)
def test_many_tarpit_posts_of_one_customer_take_two_workers_of_four(
    make_post: Callable[..., Any],
    other_channel: Any,
    messages: Callable[[str], list[Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Four threads are the worker's processes; each takes the next message, as a worker does."""
    release, most, lock = threading.Event(), [0], threading.Lock()
    active = [0]

    def tarpit(self: Any, post: Any) -> Any:
        if post.text == "tar":
            with lock:
                active[0] += 1
                most[0] = max(most[0], active[0])
            release.wait(30)
            with lock:
                active[0] -= 1
        return "id"

    monkeypatch.setattr(SandboxPublisher, "publish", tarpit)
    tar = [make_post(status="scheduled", text="tar", sent_at=timezone.now()) for _ in range(20)]
    theirs = make_post(status="scheduled", channel=other_channel, sent_at=timezone.now())
    queue = [*(str(post.pk) for post in tar), str(theirs.pk)]

    def work(number: Any) -> None:
        try:
            while True:
                with lock:
                    if not queue:
                        return
                    key = queue.pop(0)
                publication.publish(key, f"task-{number}-{key}")
        finally:
            connection.close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    start = time.monotonic()
    for thread in threads:
        thread.start()
    try:
        published = Post.objects.filter(pk=theirs.pk, status="published")
        wait_for(published.exists, timeout=150, what="the other customer's post", hint="fairness.has_turn")
        waited = time.monotonic() - start
        assert most == [2], "posts of one customer in publication at a time"
        assert Post.objects.filter(text="tar", status="scheduled", sent_at=None).count() == 18
    finally:
        release.set()
        for thread in threads:
            thread.join()
    assert waited < 20


class TestCircuit:
    @pytest.fixture(autouse=True)
    def _empty_cache(self, messages: Callable[[str], list[Any]]) -> None:
        fairness.cache.clear()

    @pytest.fixture
    def publisher(self) -> Any:
        class Scripted:
            """Raises or returns what the test specifies, and counts its calls."""

            outcome: object = "id"
            calls = 0

            def publish(self, post: Any) -> Any:
                self.calls += 1
                if isinstance(self.outcome, Exception):
                    raise self.outcome
                return self.outcome

        return Scripted()

    @staticmethod
    def fail(breaker: Any, times: Any) -> None:
        for _ in range(times):
            with pytest.raises(UnreachableError):
                breaker.publish(None)

    def test_a_host_that_does_not_answer_is_not_called_for_a_while(
        self, publisher: Any, counter: Callable[..., Any]
    ) -> None:
        breaker: Any = fairness.CircuitBreaker(publisher, 1, "https://dead.example/a")
        publisher.outcome = NoAnswerError("late")
        counted = counter("posthub_publish_postponed_total", reason="circuit_open")
        self.fail(breaker, 10)
        assert publisher.calls == fairness.FAILURES
        assert counter("posthub_publish_postponed_total", reason="circuit_open") == counted + 5

    def test_after_the_pause_one_failure_reopens_it_and_a_response_closes_it(
        self, publisher: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        breaker: Any = fairness.CircuitBreaker(publisher, 1, "https://dead.example/a")
        publisher.outcome = NoAnswerError("late")
        self.fail(breaker, 5)
        fairness.cache.delete(breaker._open)
        self.fail(breaker, 3)
        assert publisher.calls == 6
        fairness.cache.delete(breaker._open)
        publisher.outcome = "id"
        assert breaker.publish(None) == "id"
        publisher.outcome = NoAnswerError("late")
        self.fail(breaker, 4)
        publisher.outcome = "id"
        assert breaker.publish(None) == "id"

    @pytest.mark.parametrize("answer", [UnreachableError("503"), RejectedError("404")])
    def test_any_response_keeps_it_closed(self, publisher: Any, answer: Any) -> None:
        breaker: Any = fairness.CircuitBreaker(publisher, 1, "https://busy.example/")
        publisher.outcome = answer
        for _ in range(10):
            with pytest.raises(type(answer)):
                breaker.publish(None)
        assert publisher.calls == 10

    @pytest.mark.parametrize(
        ("owner", "url", "same"),
        [
            (1, "https://DEAD.example/another", True),
            (1, "https://user:secret@dead.example/", True),
            (2, "https://dead.example/a", False),
            (1, "https://dead.example:8443/a", False),
            (1, "https://alive.example/a", False),
        ],
    )
    def test_a_circuit_breaker_covers_one_owner_and_one_host(
        self, publisher: Any, owner: int, url: str, same: bool
    ) -> None:
        publisher.outcome = NoAnswerError("late")
        self.fail(fairness.CircuitBreaker(publisher, 1, "https://dead.example/a"), 5)
        publisher.outcome = "id"
        second: Any = fairness.CircuitBreaker(publisher, owner, url)
        if same:
            self.fail(second, 1)
        else:
            assert second.publish(None) == "id"

    def test_a_host_that_answers_no_customer_is_not_called_for_the_others(self, publisher: Any) -> None:
        """Otherwise each of them waits for it five times, one after the other, in the workers of all."""
        publisher.outcome = NoAnswerError("late")
        for owner in (1, 2):
            self.fail(fairness.CircuitBreaker(publisher, owner, "https://dead.example/a"), fairness.FAILURES)
        third: Any = fairness.CircuitBreaker(publisher, 3, "https://dead.example/b")
        self.fail(third, fairness.FAILURES)
        calls = publisher.calls
        assert calls == fairness.OWNERS * fairness.FAILURES
        fourth: Any = fairness.CircuitBreaker(publisher, 4, "https://DEAD.example/c")
        self.fail(fourth, 1)
        assert publisher.calls == calls
        # Another host is called.
        self.fail(fairness.CircuitBreaker(publisher, 4, "https://alive.example/"), 1)
        assert publisher.calls == calls + 1
        # After the pause, a single failure is enough.
        fairness.cache.delete_many([fourth._host_open, third._open])
        self.fail(third, 1)
        self.fail(fourth, 1)
        assert publisher.calls == calls + 2

    def test_an_answer_to_anyone_closes_the_circuit_of_the_host(self, publisher: Any) -> None:
        """So owners whose addresses do not answer hold up others once, not for as long as they like."""
        breakers: list[Any] = [
            fairness.CircuitBreaker(publisher, owner, "https://shared.example/") for owner in range(5)
        ]
        publisher.outcome = NoAnswerError("late")
        for breaker in breakers[:3]:
            self.fail(breaker, fairness.FAILURES)
        fairness.cache.delete(breakers[4]._host_open)
        publisher.outcome = "id"
        assert breakers[4].publish(None) == "id"
        publisher.outcome = NoAnswerError("late")
        for breaker in breakers[:3]:
            fairness.cache.delete(breaker._open)
            self.fail(breaker, 1)
        publisher.outcome = "id"
        assert breakers[3].publish(None) == "id"

    def test_a_circuit_closes_by_itself_and_old_failures_are_forgotten(
        self, publisher: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        expire: dict[str, set[float]] = {"set": set(), "add": set()}
        real = fairness.cache

        class Watched:
            """The cache, which notes when what is written expires."""

            def __getattr__(self, name: str) -> Any:
                return getattr(real, name)

            def set(self, key: str, value: object, *, timeout: float) -> None:
                expire["set"].add(timeout)
                real.set(key, value, timeout=timeout)

            def add(self, key: str, value: object, *, timeout: float) -> bool:
                expire["add"].add(timeout)
                return real.add(key, value, timeout=timeout)

        monkeypatch.setattr(fairness, "cache", Watched())
        publisher.outcome = NoAnswerError("late")
        for owner in range(fairness.OWNERS):
            self.fail(fairness.CircuitBreaker(publisher, owner, "https://dead.example/"), fairness.FAILURES)
        assert fairness.CircuitBreaker(publisher, 9, "https://dead.example/")._host_open in real
        assert expire == {"set": {30}, "add": {600}}

    def test_without_redis_every_host_is_called(
        self, publisher: Any, settings: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from django.core.cache import caches

        broken = {**settings.CACHES["default"], "LOCATION": "redis://127.0.0.1:1/0"}
        monkeypatch.setattr(fairness, "cache", type(caches)({"default": broken})["default"])
        breaker: Any = fairness.CircuitBreaker(publisher, 1, "https://dead.example/a")
        publisher.outcome = NoAnswerError("late")
        self.fail(breaker, 7)
        assert publisher.calls == 7

    def test_posts_use_it(self, user: Any, make_post: Callable[..., Any]) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{free.getsockname()[1]}/"
        channel = user.channels.create(name="Dead", webhook_url=url)
        for number in range(6):
            post = make_post(status="scheduled", channel=channel)
            with pytest.raises(UnreachableError):
                publication.publish(str(post.pk), f"task-{number}")
        post.refresh_from_db()
        assert (post.status, post.attempts) == ("scheduled", 1)
        assert "called again later" in post.last_error


class TestAiJobs:
    """One customer's AI jobs do not occupy every AI worker."""

    @pytest.fixture
    def make_job(self, user: Any) -> Callable[..., Any]:
        from ai.models import AIJob

        def make(**values: Any) -> Any:
            defaults = {
                "owner": user,
                "kind": "caption",
                "provider": "sandbox",
                "prompt": "Coffee",
                "sent_at": timezone.now(),
            }
            return AIJob.objects.create(**defaults | values)

        return make

    def test_a_job_beyond_the_limit_waits_in_the_database(
        self, make_job: Callable[..., Any], make_user: Callable[..., Any], settings: Any
    ) -> None:
        from ai import runner

        for _ in range(settings.AI_PER_OWNER):
            make_job(status="running", started_at=timezone.now())
        job = make_job()
        assert runner.run(str(job.pk)) == "nothing to do"
        job.refresh_from_db()
        assert (job.status, job.sent_at, job.attempts) == ("queued", None, 0)
        # Another customer's job runs meanwhile.
        theirs = make_job(owner=make_user("bob"))
        assert runner.run(str(theirs.pk)) == "succeeded"

    def test_the_end_of_a_job_sends_the_one_that_waits_longest(
        self, make_job: Callable[..., Any], messages: Callable[[str], list[Any]]
    ) -> None:
        from ai import runner

        first, _second = make_job(sent_at=None), make_job(sent_at=None)
        assert runner.run(str(make_job().pk)) == "succeeded"
        (message,) = messages("ai_jobs")
        assert str(first.pk) in str(message)
        first.refresh_from_db()
        assert first.sent_at is not None

    def test_a_job_that_fails_sends_the_next_one_as_well(
        self, make_job: Callable[..., Any], messages: Callable[[str], list[Any]]
    ) -> None:
        from ai import runner

        make_job(sent_at=None)
        assert runner.run(str(make_job(provider="nobody").pk)) == "failed"
        assert len(messages("ai_jobs")) == 1

    def test_a_message_delivered_again_continues_within_its_place(self, make_job: Callable[..., Any]) -> None:
        from ai import runner

        job = make_job(status="running", started_at=timezone.now(), attempts=1)
        assert runner.run(str(job.pk), again=True) == "succeeded"

    def test_a_dead_workers_job_frees_its_place_after_the_time_limit(
        self, make_job: Callable[..., Any]
    ) -> None:
        from ai import fairness as ai_fairness
        from ai import runner

        make_job(status="running", started_at=timezone.now() - timedelta(seconds=ai_fairness.TIME_LIMIT + 1))
        assert runner.run(str(make_job().pk)) == "succeeded"

    def test_without_a_broker_the_next_job_is_left_to_housekeeping(
        self, make_job: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from ai import fairness as ai_fairness

        job = make_job(sent_at=None)

        def enqueue(*_: Any, on_failure: Callable[[], None], **__: Any) -> bool:
            on_failure()
            return False

        monkeypatch.setattr(ai_fairness, "enqueue", enqueue)
        assert ai_fairness.send_next(job.owner_id) is False
        job.refresh_from_db()
        assert job.sent_at is None
