"""Signing in: limits on attempts, and API tokens."""

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth import authenticate
from django.db import connection
from django.http import HttpRequest
from django.test import Client
from django.utils import timezone
from rest_framework.test import APIClient

from accounts import sign_in_limits, tokens
from accounts.models import ApiToken, User

pytestmark = pytest.mark.django_db

RIGHT = {"username": "ann", "password": "rain-on-7-roofs"}
WRONG = RIGHT | {"password": "sunshine"}
DOORS = ("/api/v1/auth/token/", "/api/v1/auth/login/", "/admin/login/")


@pytest.fixture(autouse=True)
def _start_of_a_window(messages: Callable[[str], list[Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    """No window ends during a test."""
    monkeypatch.setattr(sign_in_limits.time, "time", lambda: 1_800_000_000.0)


def attempt(door: Any, body: Any, address: str = "192.0.2.1") -> Any:
    form: dict[str, Any] = {} if door.startswith("/admin/") else {"format": "json"}
    return APIClient(REMOTE_ADDR=address).post(door, body, **form)


class TestLimits:
    @pytest.mark.parametrize("door", DOORS)
    def test_attempts_from_one_address_are_limited(
        self, user: Any, settings: Any, door: Any, counter: Callable[..., Any]
    ) -> None:
        settings.SIGN_IN_PER_ADDRESS = "3/min"
        counted = counter("posthub_sign_ins_total", outcome="throttled_address")
        answers = [attempt(door, {**WRONG, "username": f"user{number}"}) for number in range(4)]
        assert [answer.status_code == 429 for answer in answers] == [False, False, False, True]
        assert int(answers[-1].headers["Retry-After"]) in range(1, 61)
        # Not even the right password is tried, but another address may.
        assert attempt(door, RIGHT).status_code == 429
        assert attempt(door, RIGHT, "192.0.2.2").status_code in (200, 302)
        assert counter("posthub_sign_ins_total", outcome="throttled_address") == counted + 2

    def test_a_window_is_as_long_as_the_limit_says(self) -> None:
        limit = sign_in_limits.Limit.parse("10/min")
        assert limit.key("a", 120.0) == limit.key("a", 179.9)
        assert limit.key("a", 120.0) != limit.key("a", 180.0)
        assert limit.key("a", 120.0) != limit.key("b", 120.0)

    def test_all_ways_to_sign_in_share_one_limit(self, user: Any, settings: Any) -> None:
        settings.SIGN_IN_PER_ADDRESS = "3/min"
        codes = [attempt(door, WRONG).status_code for door in (*DOORS, DOORS[2])]
        assert codes == [400, 400, 200, 429]

    @pytest.mark.parametrize("door", DOORS)
    def test_failed_attempts_on_one_account_are_limited_whatever_the_address(
        self, user: Any, settings: Any, door: Any
    ) -> None:
        settings.SIGN_IN_PER_ACCOUNT = "3/hour"
        for number in range(3):
            assert attempt(door, WRONG, f"192.0.2.{number}").status_code in (200, 400)
        assert attempt(door, RIGHT, "192.0.2.99").status_code == 429
        assert attempt(door, RIGHT | {"username": " ANN "}, "192.0.2.98").status_code == 429

    def test_a_client_cannot_choose_its_address(self, user: Any, settings: Any) -> None:
        """Behind one proxy, as in production: the proxy appends the real address to the one that the client claims."""
        settings.REST_FRAMEWORK = {**settings.REST_FRAMEWORK, "NUM_PROXIES": 1}
        settings.SIGN_IN_PER_ADDRESS = "3/min"
        codes = [
            APIClient(REMOTE_ADDR="10.0.0.1", HTTP_X_FORWARDED_FOR=f"198.51.100.{number}, 192.0.2.1")
            .post(DOORS[0], {**WRONG, "username": f"user{number}"}, format="json")
            .status_code
            for number in range(4)
        ]
        assert codes == [400, 400, 400, 429]

    def test_success_clears_the_failures_of_an_account(self, user: Any, settings: Any) -> None:
        settings.SIGN_IN_PER_ACCOUNT = "3/hour"
        for _ in range(3):
            assert [attempt(DOORS[0], body).status_code for body in (WRONG, WRONG, RIGHT)] == [400, 400, 200]

    def test_one_ipv6_network_counts_as_one_address(self, user: Any, settings: Any) -> None:
        settings.SIGN_IN_PER_ADDRESS = "2/min"
        codes = [attempt(DOORS[0], WRONG, f"2001:db8::{part}").status_code for part in ("1", "ffff:2", "3")]
        assert codes == [400, 400, 429]
        assert attempt(DOORS[0], WRONG, "2001:db8:0:1::1").status_code == 400

    @pytest.mark.parametrize(
        ("address", "subject"),
        [
            ("192.0.2.7", "192.0.2.7"),
            ("::ffff:192.0.2.7", "192.0.2.7"),
            ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
            ("", ""),
            ("unknown", "unknown"),
        ],
    )
    def test_subjects(self, address: str, subject: str) -> None:
        request = HttpRequest()
        request.META["REMOTE_ADDR"] = address
        assert sign_in_limits.client_address(request) == subject

    @pytest.mark.parametrize("door", DOORS)
    @pytest.mark.parametrize("body", [RIGHT, WRONG], ids=["right", "wrong"])
    def test_without_redis_no_one_signs_in(
        self, user: Any, settings: Any, monkeypatch: pytest.MonkeyPatch, door: Any, body: Any
    ) -> None:
        from django.core.cache import caches

        broken = {**settings.CACHES["sign_in"], "LOCATION": "redis://127.0.0.1:1/0"}
        monkeypatch.setattr(sign_in_limits, "caches", type(caches)({"sign_in": broken}))
        answer = attempt(door, body)
        assert answer.status_code == 503
        assert b"temporarily unavailable" in answer.content

    def test_a_redis_that_is_full_counts_as_missing(self, user: Any, broker_url: Any) -> None:
        import redis

        client = redis.Redis.from_url(broker_url)
        try:
            before = client.config_get("maxmemory")["maxmemory"]
            client.config_set("maxmemory", "1")
            client.config_set("maxmemory-policy", "noeviction")
            answer = attempt(DOORS[0], RIGHT)
        finally:
            client.config_set("maxmemory", before or "0")
            client.close()
        assert answer.status_code == 503
        assert answer.json()["code"] == "sign_in_unavailable"

    def test_a_limit_can_be_disabled(self, user: Any, settings: Any) -> None:
        settings.SIGN_IN_PER_ADDRESS = settings.SIGN_IN_PER_ACCOUNT = None
        assert {attempt(DOORS[0], WRONG).status_code for _ in range(50)} == {400}

    def test_a_local_call_has_no_address_to_limit(self, user: Any, settings: Any) -> None:
        settings.SIGN_IN_PER_ADDRESS = "1/min"
        assert [authenticate(HttpRequest(), **RIGHT) for _ in range(3)] == [user] * 3
        assert authenticate(None, **RIGHT) == user


@pytest.fixture
def issue() -> Callable[..., Any]:
    """A new token, and a client that uses it."""

    def issue(**values: Any) -> tuple[Any, APIClient]:
        answer = attempt(DOORS[0], RIGHT | values)
        assert answer.status_code == 200, answer.content
        client = APIClient()
        client.credentials(HTTP_AUTHORIZATION=f"Token {answer.json()['token']}")
        return answer.json(), client

    return issue


def works(client: Client) -> bool:
    return client.get("/api/v1/me/").status_code == 200


@pytest.mark.usefixtures("user")
class TestTokens:
    def test_only_a_digest_is_stored(self, issue: Callable[..., Any]) -> None:
        made, client = issue(name="till")
        assert works(client)
        with connection.cursor() as cursor:
            cursor.execute("SELECT accounts_apitoken::text FROM accounts_apitoken")
            (row,) = cursor.fetchone()
        assert made["token"] not in row
        assert re.search("[0-9a-f]{64}", row)
        assert made["token"].startswith(made["prefix"])

    def test_they_are_listed_without_their_text_and_revoked_one_by_one(
        self, issue: Callable[..., Any]
    ) -> None:
        first, client = issue(name="till")
        second, other = issue(name="website")
        listed = client.get("/api/v1/auth/tokens/").json()["results"]
        assert {token["name"] for token in listed} == {"till", "website"}
        assert all("token" not in token and "digest" not in token for token in listed)
        assert client.delete(f"/api/v1/auth/tokens/{second['id']}/").status_code == 204
        assert [works(client), works(other)] == [True, False]
        assert first["expires_at"] > timezone.now().isoformat()

    def test_another_customer_neither_sees_nor_revokes_them(
        self, issue: Callable[..., Any], make_user: Callable[..., Any], client_of: Callable[[Any], APIClient]
    ) -> None:
        made, client = issue()
        stranger = client_of(make_user("mallory"))
        assert [token["name"] for token in stranger.get("/api/v1/auth/tokens/").json()["results"]] == [
            "tests"
        ]
        assert stranger.delete(f"/api/v1/auth/tokens/{made['id']}/").status_code == 404
        assert works(client)

    def test_signing_out_with_a_token_revokes_it(self, issue: Callable[..., Any]) -> None:
        _, client = issue()
        assert client.post("/api/v1/auth/logout/").status_code == 204
        assert not works(client)

    def test_they_expire(self, issue: Callable[..., Any]) -> None:
        made, client = issue(days=1)
        ApiToken.objects.filter(pk=made["id"]).update(expires_at=timezone.now())
        assert client.get("/api/v1/me/").json()["code"] == "authentication_failed"
        assert tokens.forget() == 1
        assert not ApiToken.objects.exists()

    @pytest.mark.parametrize("days", [0, -1, 3651, "x"])
    def test_their_lifetime_has_limits(self, days: int | str) -> None:
        answer = attempt(DOORS[0], RIGHT | {"days": days})
        assert answer.status_code == 400
        assert list(answer.json()) == ["days"]

    @pytest.mark.parametrize(
        "change",
        [
            lambda user: user.set_password("snow-on-8-roofs"),
            lambda user: user.set_unusable_password(),
        ],
        ids=["changed", "removed"],
    )
    def test_a_change_of_password_revokes_all(
        self, issue: Callable[..., Any], user: Any, change: Any
    ) -> None:
        clients = [issue()[1] for _ in range(2)]
        other = User.objects.create_user("bob", password="x")
        tokens.issue(other, "stays")
        change(user)
        user.save()
        assert [works(client) for client in clients] == [False, False]
        assert [token.user for token in ApiToken.objects.all()] == [other]

    def test_a_change_of_password_in_the_admin_revokes_them(
        self, issue: Callable[..., Any], user: Any, client: Client
    ) -> None:
        _, program = issue()
        client.force_login(User.objects.create_superuser("boss"))
        new = {"password1": "snow-on-8-roofs", "password2": "snow-on-8-roofs", "usable_password": "true"}
        assert client.post(f"/admin/accounts/user/{user.pk}/password/", new).status_code == 302
        assert not works(program)

    def test_a_stronger_hash_of_the_same_password_revokes_nothing(
        self, issue: Callable[..., Any], user: Any, settings: Any
    ) -> None:
        _, client = issue()
        settings.PASSWORD_HASHERS = [
            "django.contrib.auth.hashers.PBKDF2PasswordHasher",
            "django.contrib.auth.hashers.MD5PasswordHasher",
        ]
        before = user.password
        assert attempt(DOORS[1], RIGHT).status_code == 200
        user.refresh_from_db()
        assert user.password != before
        assert works(client)

    def test_another_change_of_the_account_revokes_nothing(
        self, issue: Callable[..., Any], user: Any
    ) -> None:
        _, client = issue()
        user.email = "ann@example.com"
        user.save()
        assert works(client)

    def test_a_blocked_account_has_no_valid_token(self, issue: Callable[..., Any], user: Any) -> None:
        _, client = issue()
        user.is_active = False
        user.save()
        assert client.get("/api/v1/me/").status_code == 401

    def test_an_account_has_at_most_20_and_loses_the_least_used(
        self, issue: Callable[..., Any], user: Any, settings: Any
    ) -> None:
        settings.SIGN_IN_PER_ADDRESS = None
        used, client = issue(name="used")
        assert works(client)
        issued = [issue(name=f"unused {number}")[0]["id"] for number in range(25)]
        kept = {str(pk) for pk in user.api_tokens.values_list("pk", flat=True)}
        assert kept == {used["id"], *issued[-19:]}

    def test_the_last_use_is_recorded_but_not_at_every_request(
        self, issue: Callable[..., Any], django_assert_num_queries: Callable[[int], Any]
    ) -> None:
        made, client = issue()
        assert works(client)
        assert ApiToken.objects.get(pk=made["id"]).last_used_at is not None
        ApiToken.objects.update(last_used_at=timezone.now() - timedelta(minutes=1))
        before = ApiToken.objects.get().last_used_at
        assert works(client)
        assert ApiToken.objects.get().last_used_at == before

    @pytest.mark.parametrize("key", ["", "x", "ph_" + "a" * 43, "é" * 20])
    def test_nonsense_is_refused(self, key: Any) -> None:
        client = APIClient()
        client.credentials(HTTP_AUTHORIZATION=f"Token {key}")
        assert client.get("/api/v1/me/").status_code == 401


def test_staff_can_revoke_tokens_but_not_create_them(
    client: Client, issue: Callable[..., Any], user: Any
) -> None:
    made, program = issue()
    client.force_login(User.objects.create_superuser("boss"))
    page = client.get("/admin/accounts/apitoken/")
    assert made["prefix"] in page.content.decode()
    assert client.get("/admin/accounts/apitoken/add/").status_code == 403
    assert client.post(f"/admin/accounts/apitoken/{made['id']}/delete/", {"post": "yes"}).status_code == 302
    assert not works(program)


class TestMigration:
    """Tokens that an earlier version stored as plain text."""

    KEY = "9944b09199c62bcf9418ad846dd0e4bbdfc6ee4b"

    @pytest.fixture
    def earlier(self, user: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute("CREATE TABLE authtoken_token (key text, created timestamptz, user_id bigint)")
            cursor.execute("INSERT INTO authtoken_token VALUES (%s, now(), %s)", [self.KEY, user.pk])

    @staticmethod
    def rows() -> Any:
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM authtoken_token")
            return cursor.fetchone()[0]

    def test_old_tokens_keep_working_and_are_no_longer_readable(self, earlier: Any, user: Any) -> None:
        from importlib import import_module

        with connection.schema_editor() as editor:
            import_module("accounts.migrations.0002_api_tokens").move_tokens(None, editor)
        client = APIClient()
        client.credentials(HTTP_AUTHORIZATION=f"Token {self.KEY}")
        assert works(client)
        assert self.rows() == 0
        assert user.api_tokens.get().expires_at > timezone.now() + timedelta(days=80)

    def test_a_token_that_an_earlier_process_still_writes_is_deleted(self, earlier: Any) -> None:
        assert tokens.forget() == 0
        assert self.rows() == 0
