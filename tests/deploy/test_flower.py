"""Flower as production starts it: its network is not its only protection."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from sidecar.http import session
from stack.paths import ROOT
from stack.ports import HOST, choose
from stack.servers import Redis, Service

CONF, SECRETS = "/etc/flower.py", "/run/secrets"


@pytest.fixture(scope="module")
def flower(
    production: dict[str, Any],
    init_secrets: Any,
    redis_server: Redis,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[str]:
    """Its address, with the command, the file and the secret of compose."""
    folder, service = tmp_path_factory.mktemp("flower"), production["services"]["posthub_flower"]
    assert f"./deploy/flower.py:{CONF}:ro" in service["volumes"]
    assert f"./secrets/flower:{SECRETS}:ro" in service["volumes"]
    values = dict.fromkeys(init_secrets.SECRETS, "") | {"FLOWER_PASSWORD": "of flower"}
    for name, text in init_secrets.files(values)["flower"].items():
        (folder / name).write_text(text)
    conf = (ROOT / "deploy" / "flower.py").read_text(encoding="utf-8")
    assert SECRETS in conf
    (folder / "flower.py").write_text(conf.replace(SECRETS, str(folder)))
    port = choose()
    changes = {CONF: str(folder / "flower.py"), "--port=5555": f"--port={port} --address={HOST}"}
    command = " ".join(service["command"])
    for old, new in changes.items():
        assert old in command
        command = command.replace(old, new)
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT / "app"),
        "DJANGO_SETTINGS_MODULE": service["environment"]["DJANGO_SETTINGS_MODULE"],
        "CELERY_BROKER_URL": redis_server.url,
    }
    program = [sys.executable, "-m", *command.split()]
    with Service(
        "flower", program, folder=folder, env=environment, port=port, ready="/flower/healthcheck"
    ) as running:
        yield running.url


def _status(url: str, login: tuple[str, str] | None) -> int:
    with session() as client:
        answer: requests.Response = client.get(url, auth=login, timeout=30, allow_redirects=False)
    return answer.status_code


@pytest.mark.parametrize("page", ["/flower/", "/flower/workers", "/flower/tasks", "/flower/broker"])
def test_its_pages_require_the_password_that_caddy_sends(flower: str, page: str) -> None:
    assert _status(flower + page, None) == 401
    assert _status(flower + page, ("caddy", "wrong")) == 401
    assert _status(flower + page, ("caddy", "of flower")) in (200, 302)


@pytest.mark.parametrize("page", ["/flower/api/workers", "/flower/api/queues/length", "/flower/api/tasks"])
def test_so_does_its_api(flower: str, page: str) -> None:
    assert _status(flower + page, None) == 401


def test_its_health_check_needs_none(flower: str, production: dict[str, Any]) -> None:
    (page,) = (
        word for word in production["services"]["posthub_flower"]["healthcheck"]["test"] if "://" in word
    )
    assert _status(flower + page.partition(":5555")[2], None) == 200


def test_without_its_secret_it_does_not_start(tmp_path: Path) -> None:
    conf = (ROOT / "deploy" / "flower.py").read_text(encoding="utf-8").replace(SECRETS, str(tmp_path))
    with pytest.raises(FileNotFoundError):
        exec(compile(conf, "flower.py", "exec"), {})
