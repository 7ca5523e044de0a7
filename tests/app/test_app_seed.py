"""`manage.py seed_demo`."""

import io
import json
from collections.abc import Callable
from typing import Any

import pytest
from django.core.management import call_command
from rest_framework.test import APIClient

from accounts.models import User

pytestmark = pytest.mark.django_db


def seed(**options: Any) -> Any:
    out = io.StringIO()
    call_command("seed_demo", json=True, stdout=out, **options)
    return json.loads(out.getvalue())["users"]


def test_running_it_again_changes_nothing(
    client_of: Callable[[Any], APIClient], messages: Callable[[str], list[Any]]
) -> None:
    first = seed(users=3)
    second = seed(users=3)
    # Except the tokens, whose text is stored nowhere.
    assert [{**user, "token": ""} for user in second] == [{**user, "token": ""} for user in first]
    assert [user["plan"] for user in first] == ["paid", "free", "free"]
    from rest_framework.test import APIClient

    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Token {second[0]['token']}")
    made = client.post("/api/v1/posts/", {"channel": first[0]["channel"], "text": "Hi"}, format="json")
    assert made.status_code == 201


def test_a_webhook_instead_of_the_sandbox() -> None:
    (user,) = seed(users=1, webhook_url="http://127.0.0.1:9/hook")
    channel = User.objects.get(username=user["username"]).channels.get()
    assert (channel.publisher, channel.webhook_url) == ("webhook", "http://127.0.0.1:9/hook")


def test_the_password_comes_only_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    seed(users=1)
    assert not User.objects.get(username="demo1").has_usable_password()
    assert not User.objects.filter(is_staff=True).exists()
    monkeypatch.setenv("DEMO_PASSWORD", "rain-on-7-roofs")
    seed(users=1)
    assert User.objects.get(username="demo1").check_password("rain-on-7-roofs")
    assert User.objects.get(is_staff=True).username == "demo-staff"


def test_without_json_it_prints_one_line_per_user(capsys: pytest.CaptureFixture[str]) -> None:
    call_command("seed_demo", users=2)
    assert len(capsys.readouterr().out.splitlines()) == 2
