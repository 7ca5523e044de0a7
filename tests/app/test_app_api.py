"""The REST API as a customer's program uses it."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from rest_framework.test import APIClient

from config.encryption import decrypt
from posts.models import Channel


def soon(**delta: Any) -> str:
    return (timezone.now() + timedelta(**delta)).isoformat()


def test_a_post_is_created_listed_and_read(api: APIClient, channel: Any) -> None:
    made = api.post("/api/v1/posts/", {"channel": str(channel.pk), "text": "Hello"}, format="json")
    assert made.status_code == 201
    assert made.json()["status"] == "draft"
    listed = api.get("/api/v1/posts/").json()
    assert listed["count"] == 1
    assert listed["results"][0] == api.get(f"/api/v1/posts/{made.json()['id']}/").json()


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"text": "Hello"}, "channel"),
        ({"channel": "CHANNEL"}, "text"),
        ({"channel": "CHANNEL", "text": "   "}, "text"),
        ({"channel": "CHANNEL", "text": "x" * 5001}, "text"),
        ({"channel": "00000000-0000-0000-0000-000000000000", "text": "Hello"}, "channel"),
        ({"channel": "nonsense", "text": "Hello"}, "channel"),
    ],
)
def test_an_invalid_post_is_answered_with_the_invalid_field(
    api: APIClient, channel: Any, body: Any, field: str
) -> None:
    body = {name: str(channel.pk) if value == "CHANNEL" else value for name, value in body.items()}
    answer = api.post("/api/v1/posts/", body, format="json")
    assert answer.status_code == 400
    assert list(answer.json()) == [field]


def test_fields_of_the_state_cannot_be_written(api: APIClient, channel: Any) -> None:
    body = {
        "channel": str(channel.pk),
        "text": "Hello",
        "status": "published",
        "published_at": soon(),
        "attempts": 9,
    }
    made = api.post("/api/v1/posts/", body, format="json").json()
    assert (made["status"], made["published_at"], made["attempts"]) == ("draft", None, 0)


def test_the_list_is_paginated_and_filtered(api: APIClient, make_post: Callable[..., Any]) -> None:
    for _ in range(25):
        make_post()
    make_post(status="published")
    first = api.get("/api/v1/posts/").json()
    assert (first["count"], len(first["results"])) == (26, 20)
    assert len(api.get(first["next"]).json()["results"]) == 6
    assert len(api.get("/api/v1/posts/?page_size=1000").json()["results"]) == 26
    assert api.get("/api/v1/posts/?status=published").json()["count"] == 1
    assert api.get("/api/v1/posts/?status=nonsense").status_code == 400
    assert api.get("/api/v1/posts/?channel=nonsense").status_code == 400


@pytest.mark.django_db(transaction=True)
def test_publish_sends_to_quick_and_names_the_request(
    api: APIClient, make_post: Callable[..., Any], messages: Callable[[str], list[Any]]
) -> None:
    post = make_post()
    answer = api.post(f"/api/v1/posts/{post.pk}/publish/", HTTP_X_REQUEST_ID="abc-12345678")
    assert answer.status_code == 202
    assert answer.json()["status"] == "scheduled"
    assert answer.headers["X-Request-ID"] == "abc-12345678"
    (message,) = messages("quick")
    assert (message.task, message.args) == ("posts.tasks.publish_now", (str(post.pk),))
    assert message.headers["request_id"] == "abc-12345678"


def test_scheduling_sends_nothing_before_its_time(
    api: APIClient,
    make_post: Callable[..., Any],
    messages: Callable[[str], list[Any]],
    run_on_commit: Callable[[], Any],
) -> None:
    post = make_post()
    with run_on_commit():
        answer = api.post(
            f"/api/v1/posts/{post.pk}/schedule/", {"scheduled_at": soon(hours=1)}, format="json"
        )
    assert answer.status_code == 202
    assert answer.json()["status"] == "scheduled"
    assert messages("quick") == messages("scheduled") == []


@pytest.mark.parametrize(
    ("when", "code"),
    [({"hours": -2}, "past"), ({"days": 400}, "too_far"), (None, "required"), ("never", "invalid")],
)
def test_invalid_times_are_refused(
    api: APIClient, make_post: Callable[..., Any], when: dict[str, Any] | str | None, code: str
) -> None:
    body = {} if when is None else {"scheduled_at": when if isinstance(when, str) else soon(**when)}
    answer = api.post(f"/api/v1/posts/{make_post().pk}/schedule/", body, format="json")
    assert answer.status_code == 400, code
    assert list(answer.json()) == ["scheduled_at"]


def test_a_time_just_past_means_at_once(api: APIClient, make_post: Callable[..., Any]) -> None:
    answer = api.post(
        f"/api/v1/posts/{make_post().pk}/schedule/", {"scheduled_at": soon(minutes=-1)}, format="json"
    )
    assert answer.status_code == 202


@pytest.mark.parametrize(
    ("status", "verb"),
    [
        ("published", "publish"),
        ("publishing", "publish"),
        ("draft", "retry"),
        ("published", "retry"),
        ("draft", "cancel"),
        ("publishing", "cancel"),
    ],
)
def test_what_the_state_does_not_allow_is_a_conflict(
    api: APIClient, make_post: Callable[..., Any], status: str, verb: str
) -> None:
    post = make_post(status=status)
    answer = api.post(f"/api/v1/posts/{post.pk}/{verb}/")
    assert answer.status_code == 409
    assert answer.json()["code"] == "wrong_status"
    assert status in answer.json()["detail"]
    post.refresh_from_db()
    assert post.status == status


def test_a_failed_post_is_retried_from_the_start(
    api: APIClient,
    make_post: Callable[..., Any],
    messages: Callable[[str], list[Any]],
    run_on_commit: Callable[[], Any],
) -> None:
    post = make_post(status="failed", attempts=5, last_error="the webhook answered 404")
    with run_on_commit():
        answer = api.post(f"/api/v1/posts/{post.pk}/retry/").json()
    assert (answer["status"], answer["attempts"], answer["last_error"]) == ("scheduled", 0, "")
    assert len(messages("quick")) == 1


def test_a_scheduled_post_is_cancelled_and_edited(api: APIClient, make_post: Callable[..., Any]) -> None:
    post = make_post(status="scheduled")
    assert (
        api.patch(f"/api/v1/posts/{post.pk}/", {"text": "Better"}, format="json").json()["text"] == "Better"
    )
    assert api.post(f"/api/v1/posts/{post.pk}/cancel/").json()["status"] == "draft"


def test_a_post_that_is_being_published_is_neither_edited_nor_deleted(
    api: APIClient, make_post: Callable[..., Any]
) -> None:
    post = make_post(status="publishing")
    assert api.patch(f"/api/v1/posts/{post.pk}/", {"text": "Late"}, format="json").status_code == 409
    assert api.delete(f"/api/v1/posts/{post.pk}/").status_code == 409


def test_similar_posts_are_the_nearest_ones_of_the_same_customer(
    api: APIClient, make_post: Callable[..., Any], make_user: Callable[..., Any]
) -> None:
    from ai.providers.sandbox import Sandbox

    sandbox = Sandbox(dimensions=768)
    texts = ["fresh coffee every morning", "coffee every morning", "winter tyres on sale"]
    first, second, third = (make_post(text=text, embedding=sandbox.embed(text)) for text in texts)
    other = make_user("bob").channels.create(name="Other", publisher="sandbox")
    make_post(channel=other, text=texts[0], embedding=sandbox.embed(texts[0]))
    found = [entry["id"] for entry in api.get(f"/api/v1/posts/{first.pk}/similar/").json()]
    assert found == [str(second.pk), str(third.pk)]


@pytest.mark.parametrize("path", ["auth/token/", "auth/login/", "posts/"])
def test_a_deeply_nested_body_is_a_client_error(api: APIClient, path: str) -> None:
    answer = api.post(f"/api/v1/{path}", "[" * 200_000, content_type="application/json")
    assert answer.status_code == 400
    assert answer.json()["code"] == "parse_error"


@pytest.mark.parametrize("path", ["posts/00000000-0000-0000-0000-000000000000/", "nothing/here/"])
def test_a_missing_object_or_path_is_a_404_in_json(api: APIClient, path: str) -> None:
    answer = api.get(f"/api/v1/{path}")
    assert answer.status_code == 404
    assert answer.json()["code"] == "not_found"


def test_an_internal_error_is_json_without_its_reason(
    api: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("posts.api.PostViewSet.get_queryset", lambda self: 1 / 0)
    api.raise_request_exception = False
    answer = api.get("/api/v1/posts/")
    assert answer.status_code == 500
    assert answer.json() == {"detail": "A server error occurred.", "code": "error"}


class TestChannels:
    def test_a_webhook_channel_needs_an_address(self, api: APIClient) -> None:
        answer = api.post("/api/v1/channels/", {"name": "Shop"}, format="json")
        assert answer.json() == {"webhook_url": ["A webhook channel needs an address."]}

    def test_the_secret_is_never_shown(self, api: APIClient) -> None:
        body = {"name": "Shop", "webhook_url": "https://example.com/hook", "webhook_secret": "hush-hush"}
        made = api.post("/api/v1/channels/", body, format="json")
        assert made.status_code == 201
        shown = api.get(f"/api/v1/channels/{made.json()['id']}/")
        for answer in (made, shown):
            assert "hush-hush" not in answer.content.decode()
            assert "webhook_secret" not in answer.json()

    def test_the_secret_is_stored_encrypted(self, api: APIClient) -> None:
        body = {"name": "Shop", "webhook_url": "https://example.com/hook", "webhook_secret": "hush-hush"}
        channel = Channel.objects.get(pk=api.post("/api/v1/channels/", body, format="json").json()["id"])
        assert "hush-hush" not in channel.webhook_secret
        assert decrypt(channel.webhook_secret) == "hush-hush"

    def test_names_are_unique_for_a_customer_only(
        self,
        api: APIClient,
        channel: Any,
        make_user: Callable[..., Any],
        client_of: Callable[[Any], APIClient],
    ) -> None:
        body = {"name": channel.name, "publisher": "sandbox"}
        assert list(api.post("/api/v1/channels/", body, format="json").json()) == ["name"]
        assert client_of(make_user("bob")).post("/api/v1/channels/", body, format="json").status_code == 201

    def test_a_name_taken_at_the_same_moment_is_refused(
        self, api: APIClient, channel: Any, make_user: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        other = api.post("/api/v1/channels/", {"name": "B", "publisher": "sandbox"}, format="json").json()
        # The other request inserts its row between the check and the insert.
        monkeypatch.setattr("django.db.models.query.QuerySet.exists", lambda self: False)
        body = {"name": channel.name, "publisher": "sandbox"}
        made = api.post("/api/v1/channels/", body, format="json")
        renamed = api.patch(f"/api/v1/channels/{other['id']}/", {"name": channel.name}, format="json")
        for answer in (made, renamed):
            assert answer.status_code == 400
            assert answer.json() == {"name": ["You already have a channel with this name."]}

    def test_production_refuses_the_sandbox_and_plain_http(self, api: APIClient, settings: Any) -> None:
        settings.SANDBOX_ALLOWED = settings.WEBHOOK_ALLOW_HTTP = False
        sandbox = api.post("/api/v1/channels/", {"name": "S", "publisher": "sandbox"}, format="json")
        assert list(sandbox.json()) == ["publisher"]
        plain = api.post(
            "/api/v1/channels/", {"name": "H", "webhook_url": "http://example.com"}, format="json"
        )
        assert list(plain.json()) == ["webhook_url"]

    @pytest.mark.parametrize("status", ["scheduled", "publishing"])
    def test_a_channel_with_waiting_posts_is_not_deleted(
        self, api: APIClient, channel: Any, make_post: Callable[..., Any], status: str
    ) -> None:
        make_post(status=status)
        assert api.delete(f"/api/v1/channels/{channel.pk}/").json()["code"] == "posts_waiting"


class TestIsolation:
    """The objects of another customer do not exist."""

    @pytest.fixture
    def stranger(
        self,
        make_user: Callable[..., Any],
        client_of: Callable[[Any], APIClient],
        messages: Callable[[str], list[Any]],
    ) -> APIClient:
        return client_of(make_user("mallory"))

    def test_lists_are_empty(self, stranger: Any, make_post: Callable[..., Any], user: Any) -> None:
        make_post()
        user.ai_jobs.create(kind="caption", provider="sandbox", prompt="x")
        for path in ("posts", "channels", "ai/jobs"):
            assert stranger.get(f"/api/v1/{path}/").json()["count"] == 0

    @pytest.mark.parametrize("verb", ["schedule", "publish", "retry", "cancel"])
    def test_no_request_method_reaches_a_post(
        self, stranger: Any, make_post: Callable[..., Any], verb: str
    ) -> None:
        post = make_post(status="failed")
        body = {"scheduled_at": soon(hours=1)}
        assert stranger.post(f"/api/v1/posts/{post.pk}/{verb}/", body, format="json").status_code == 404

    def test_nothing_is_read_changed_or_deleted(
        self, stranger: Any, make_post: Callable[..., Any], channel: Any, user: Any
    ) -> None:
        post, job = make_post(), user.ai_jobs.create(kind="caption", provider="sandbox", prompt="x")
        for path in (
            f"posts/{post.pk}/",
            f"channels/{channel.pk}/",
            f"ai/jobs/{job.pk}/",
            f"posts/{post.pk}/similar/",
        ):
            assert stranger.get(f"/api/v1/{path}").status_code == 404
        for path in (f"posts/{post.pk}/", f"channels/{channel.pk}/"):
            assert (
                stranger.patch(f"/api/v1/{path}", {"text": "mine", "name": "mine"}, format="json").status_code
                == 404
            )
            assert stranger.delete(f"/api/v1/{path}").status_code == 404
        assert stranger.post(f"/api/v1/ai/jobs/{job.pk}/cancel/").status_code == 404

    def test_a_foreign_channel_or_post_cannot_be_named(
        self, stranger: Any, channel: Any, make_post: Callable[..., Any]
    ) -> None:
        mine = stranger.post(
            "/api/v1/channels/", {"name": "Mine", "publisher": "sandbox"}, format="json"
        ).json()
        made = stranger.post("/api/v1/posts/", {"channel": mine["id"], "text": "x"}, format="json").json()
        body = {"channel": str(channel.pk), "text": "x"}
        assert stranger.post("/api/v1/posts/", body, format="json").status_code == 400
        assert stranger.patch(f"/api/v1/posts/{made['id']}/", body, format="json").status_code == 400
        caption = {"prompt": "x", "post": str(make_post().pk)}
        assert stranger.post("/api/v1/ai/captions/", caption, format="json").status_code == 400


WHO = {"username": "ann", "password": "rain-on-7-roofs"}


class TestSigningIn:
    def test_anonymous_requests_are_refused(self, db: None, messages: Callable[[str], list[Any]]) -> None:
        for path in ("posts", "channels", "ai/jobs", "me"):
            answer = APIClient().get(f"/api/v1/{path}/")
            assert answer.status_code == 401
            assert answer.json()["code"] == "not_authenticated"

    def test_a_token_for_a_password(self, user: Any, messages: Callable[[str], list[Any]]) -> None:
        client = APIClient()
        token = client.post("/api/v1/auth/token/", WHO, format="json").json()["token"]
        client.credentials(HTTP_AUTHORIZATION=f"Token {token}")
        assert client.get("/api/v1/me/").json()["username"] == "ann"

    def test_a_wrong_password(self, user: Any, messages: Callable[[str], list[Any]]) -> None:
        wrong = WHO | {"password": "sunshine"}
        assert APIClient().post("/api/v1/auth/token/", wrong, format="json").status_code == 400

    def test_a_session_needs_the_csrf_token_to_write(
        self, user: Any, messages: Callable[[str], list[Any]]
    ) -> None:
        client = APIClient(enforce_csrf_checks=True)
        signed_in = client.post("/api/v1/auth/login/", WHO, format="json")
        assert signed_in.status_code == 200
        body = {"name": "Shop", "publisher": "sandbox"}
        assert client.post("/api/v1/channels/", body, format="json").status_code == 403
        key = {"HTTP_X_CSRFTOKEN": client.get("/api/v1/me/").json()["csrf_token"]}
        assert client.post("/api/v1/channels/", body, format="json", **key).status_code == 201
        assert client.post("/api/v1/auth/logout/", **key).status_code == 204
        assert client.get("/api/v1/me/").status_code == 401


@pytest.fixture
def rates(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    from rest_framework.throttling import SimpleRateThrottle

    def change(**rates: Any) -> None:
        monkeypatch.setattr(SimpleRateThrottle, "THROTTLE_RATES", SimpleRateThrottle.THROTTLE_RATES | rates)

    return change


def test_throttling_a_customer_does_not_affect_others(
    api: APIClient, rates: Any, make_user: Callable[..., Any], client_of: Callable[[Any], APIClient]
) -> None:
    rates(user="2/min")
    answers = [api.get("/api/v1/me/") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert int(answers[-1].headers["Retry-After"]) > 0
    assert answers[-1].json()["code"] == "throttled"
    assert client_of(make_user("bob")).get("/api/v1/me/").status_code == 200


class TestCaptions:
    def test_the_plan_decides_the_queue(
        self,
        make_user: Callable[..., Any],
        client_of: Callable[[Any], APIClient],
        messages: Callable[[str], list[Any]],
        run_on_commit: Callable[[], Any],
    ) -> None:
        for plan, queue in (("free", "ai_jobs"), ("paid", "ai_priority")):
            client = client_of(make_user(plan, plan=plan))
            with run_on_commit():
                answer = client.post("/api/v1/ai/captions/", {"prompt": "Coffee"}, format="json")
            assert answer.status_code == 202
            (message,) = messages(queue)
            assert message.id == message.args[0] == answer.json()["id"]

    def test_errors_name_the_field(self, api: APIClient) -> None:
        assert list(api.post("/api/v1/ai/captions/", {}, format="json").json()) == ["prompt"]
        unknown = {"prompt": "Coffee", "provider": "gemini"}
        assert api.post("/api/v1/ai/captions/", unknown, format="json").json() == {
            "provider": ["Available: sandbox."]
        }

    def test_a_missing_provider_is_reported(self, api: APIClient, settings: Any) -> None:
        settings.SANDBOX_ALLOWED = False
        answer = api.post("/api/v1/ai/captions/", {"prompt": "Coffee"}, format="json")
        assert (answer.status_code, answer.json()["code"]) == (503, "no_provider")

    def test_cancel(self, api: APIClient, user: Any) -> None:
        job = user.ai_jobs.create(kind="caption", provider="sandbox", prompt="x")
        assert api.post(f"/api/v1/ai/jobs/{job.pk}/cancel/").json()["status"] == "cancelled"
        assert api.post(f"/api/v1/ai/jobs/{job.pk}/cancel/").status_code == 409


def test_the_schema_is_complete(db: None, capsys: pytest.CaptureFixture[str]) -> None:
    from drf_spectacular.drainage import GENERATOR_STATS
    from drf_spectacular.generators import SchemaGenerator

    GENERATOR_STATS.reset()
    schema = SchemaGenerator().get_schema(request=None, public=True)
    assert not GENERATOR_STATS, capsys.readouterr().err
    assert "/api/v1/posts/{id}/publish/" in schema["paths"]


def test_the_schema_needs_an_account(api: APIClient, messages: Callable[[str], list[Any]]) -> None:
    assert APIClient().get("/api/v1/schema/").status_code == 401
    assert api.get("/api/v1/schema/").status_code == 200


def test_pages_of_the_admin_load_only_their_own_files(client: Client, db: None) -> None:
    policy = client.get("/admin/login/").headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    assert "unsafe-inline" not in policy


def test_staff_see_the_admin_and_customers_do_not(
    client: Client,
    make_user: Callable[..., Any],
    make_post: Callable[..., Any],
    messages: Callable[[str], list[Any]],
) -> None:
    make_post()
    client.force_login(make_user("boss", is_staff=True, is_superuser=True))
    for name in (
        "posts/post",
        "posts/channel",
        "ai/aijob",
        "accounts/user",
        "django_celery_beat/periodictask",
    ):
        assert client.get(f"/admin/{name}/").status_code == 200
    client.force_login(make_user("bob"))
    assert client.get("/admin/posts/post/").status_code == 302


def test_the_list_is_filtered_by_time_for_a_calendar(api: APIClient, make_post: Callable[..., Any]) -> None:
    make_post(text="draft")
    make_post(text="due", status="scheduled", scheduled_at=timezone.now() + timedelta(days=1))
    make_post(text="done", status="published", published_at=timezone.now() - timedelta(days=1))

    def texts(**range_: Any) -> list[str]:
        return [post["text"] for post in api.get("/api/v1/posts/", range_).json()["results"]]

    assert sorted(texts(since=soon(days=-2), until=soon(days=2))) == ["done", "due"]
    assert texts(since=soon()) == ["due"]
    assert texts(until=soon()) == ["done"]
    assert api.get("/api/v1/posts/?since=yesterday").status_code == 400


def test_a_post_at_the_boundary_of_two_months_is_in_the_second_one(
    api: APIClient, make_post: Callable[..., Any]
) -> None:
    boundary = timezone.now() + timedelta(days=3)
    make_post(status="scheduled", scheduled_at=boundary)
    counts = [
        api.get("/api/v1/posts/", {side: boundary.isoformat()}).json()["count"] for side in ("until", "since")
    ]
    assert counts == [0, 1]


def test_the_session_lists_available_publishers_and_providers(api: APIClient, settings: Any) -> None:
    assert api.get("/api/v1/me/").json()["publishers"] == ["webhook", "sandbox"]
    settings.SANDBOX_ALLOWED = False
    answer = api.get("/api/v1/me/").json()
    assert (answer["publishers"], answer["ai_providers"]) == (["webhook"], [])
