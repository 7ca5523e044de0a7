"""Signing secrets are encrypted in the database, and their keys can be replaced."""

from collections.abc import Callable
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection
from rest_framework.test import APIClient

from config.encryption import UndecryptableError, decrypt, encrypt
from config.settings.base import env
from posts import publication, signing_secrets
from posts.models import Channel
from posts.publishers import UnreachableError

pytestmark = pytest.mark.django_db

OLD, NEW = ("old-key-of-the-tests-0123456789abcdef", "new-key-of-the-tests-0123456789abcdef")


@pytest.fixture(autouse=True)
def keys(settings: Any) -> Callable[..., None]:
    """Sets the keys that the settings have."""

    def use(*keys: Any) -> None:
        settings.FIELD_ENCRYPTION_KEYS = list(keys)

    use(OLD)
    return use


def stored(channel: Any) -> str:
    with connection.cursor() as cursor:
        cursor.execute("SELECT posts_channel::text FROM posts_channel WHERE id = %s", [channel.pk])
        return cursor.fetchone()[0]


@pytest.fixture
def hook(outside: Any, user: Any) -> Any:
    outside.will_answer(200)
    return user.channels.create(name="Hook", webhook_url=outside.url, webhook_secret=encrypt("hush"))


def test_a_value_is_encrypted_differently_each_time_and_decrypted() -> None:
    first, second = encrypt("hush ž"), encrypt("hush ž")
    assert first != second
    assert decrypt(first) == decrypt(second) == "hush ž"
    assert "hush" not in first


def test_what_the_api_stores_is_not_readable(api: APIClient) -> None:
    body = {"name": "Hook", "webhook_url": "https://example.com/", "webhook_secret": "hush-hush"}
    made = api.post("/api/v1/channels/", body, format="json").json()
    channel = Channel.objects.get(pk=made["id"])
    assert "hush" not in stored(channel)
    assert decrypt(channel.webhook_secret) == "hush-hush"
    api.patch(f"/api/v1/channels/{channel.pk}/", {"webhook_secret": "changed"}, format="json")
    channel.refresh_from_db()
    assert "changed" not in stored(channel)
    assert decrypt(channel.webhook_secret) == "changed"
    api.patch(f"/api/v1/channels/{channel.pk}/", {"webhook_secret": ""}, format="json")
    channel.refresh_from_db()
    assert channel.webhook_secret == ""


def test_text_of_a_customer_that_looks_encrypted_is_encrypted_as_well(api: APIClient) -> None:
    secret = encrypt("other")
    body = {"name": "Hook", "webhook_url": "https://example.com/", "webhook_secret": secret}
    made = api.post("/api/v1/channels/", body, format="json").json()
    assert decrypt(Channel.objects.get(pk=made["id"]).webhook_secret) == secret


def test_the_signature_is_made_with_the_secret(
    hook: Any, make_post: Callable[..., Any], outside: Any, messages: Callable[[str], list[Any]]
) -> None:
    import hashlib
    import hmac

    post = make_post(channel=hook, status="scheduled")
    assert publication.publish(str(post.pk), "task-1") == "published"
    (request,) = outside.requests
    expected = hmac.new(b"hush", request.body, hashlib.sha256).hexdigest()
    assert request.headers["X-PostHub-Signature"] == f"sha256={expected}"


def test_a_key_is_replaced_in_three_steps(hook: Any, keys: Any) -> None:
    keys(NEW, OLD)
    assert decrypt(hook.webhook_secret) == "hush"
    assert signing_secrets.reencrypt() == {"encrypted": 1, "undecryptable": 0}
    assert signing_secrets.reencrypt() == {"encrypted": 0, "undecryptable": 0}
    hook.refresh_from_db()
    keys(NEW)
    assert decrypt(hook.webhook_secret) == "hush"


def test_plain_text_of_an_earlier_version_works_and_is_encrypted_by_housekeeping(
    hook: Any, make_post: Callable[..., Any], messages: Callable[[str], list[Any]]
) -> None:
    from monitoring.tasks import housekeeping

    Channel.objects.filter(pk=hook.pk).update(webhook_secret="hush")
    assert publication.publish(str(make_post(channel=hook, status="scheduled").pk), "task-1") == "published"
    assert housekeeping()["secrets"] == {"encrypted": 1, "undecryptable": 0}
    hook.refresh_from_db()
    assert "hush" not in stored(hook)
    assert decrypt(hook.webhook_secret) == "hush"


@pytest.mark.parametrize("damage", ["key", "value"])
def test_a_secret_that_cannot_be_decrypted_is_never_sent_lost_or_shown(
    hook: Any,
    make_post: Callable[..., Any],
    keys: Any,
    damage: str,
    outside: Any,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if damage == "key":
        keys(NEW)
    else:
        Channel.objects.filter(pk=hook.pk).update(webhook_secret=hook.webhook_secret[:-4] + "AAA=")
        hook.refresh_from_db()
    before = stored(hook)
    with pytest.raises(UndecryptableError, match=r"not configured|damaged"):
        decrypt(hook.webhook_secret)
    post = make_post(channel=hook, status="scheduled")
    with pytest.raises(UnreachableError, match="cannot be decrypted"):
        publication.publish(str(post.pk), "task-1")
    post.refresh_from_db()
    assert (post.status, outside.requests) == ("scheduled", [])
    if damage == "key":
        with pytest.raises(SystemExit, match="1"):
            call_command("reencrypt_secrets")
        assert "Try: append the earlier key" in capsys.readouterr().err
        assert stored(hook) == before


def test_the_command_reports_what_it_did(hook: Any, keys: Any, capsys: pytest.CaptureFixture[str]) -> None:
    keys(NEW, OLD)
    call_command("reencrypt_secrets")
    assert capsys.readouterr().out == "1 secrets encrypted with the first key\n"


@pytest.mark.parametrize("value", ["short", "a" * 40, f"{OLD},short"])
def test_a_weak_key_is_refused_without_being_shown(monkeypatch: pytest.MonkeyPatch, value: Any) -> None:
    from config.env import ConfigError

    monkeypatch.setenv("MY_KEYS", value)
    with pytest.raises(ConfigError, match="MY_KEYS contains a key that is too weak") as caught:
        env.keys("MY_KEYS")
    assert value not in str(caught.value)
