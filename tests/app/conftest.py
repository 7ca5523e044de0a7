"""Django for these tests, configured without the environment, so that other folders are not affected.

The settings are those of development. Database and broker are the real servers of tests/conftest.py, which exist
only during a test, so a fixture sets their addresses.
"""

import json
import os
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

APP = Path(__file__).resolve().parents[2] / "app"


def _configure() -> None:
    before = dict(os.environ)
    sys.path.insert(0, str(APP))
    os.environ["LOG_LEVEL"] = "WARNING"
    # Celery reads this variable once, when the app is created.
    os.environ["DJANGO_SETTINGS_MODULE"] = "config.settings.development"
    try:
        import django
        from django.conf import settings

        from config.settings import development

        values = {name: getattr(development, name) for name in dir(development) if name.isupper()}
        values |= {"DEBUG": False, "PASSWORD_HASHERS": ["django.contrib.auth.hashers.MD5PasswordHasher"]}
        settings.configure(**values)
        # Configured before Celery reads them, so that logging stays pytest's.
        django.setup(set_prefix=False)
    finally:
        os.environ.clear()
        os.environ.update(before)


_configure()


@pytest.fixture(autouse=True)
def _no_settings_left_behind() -> Iterator[None]:
    """Entry points such as config.wsgi set this name when a test imports them; later children would inherit it."""
    yield
    os.environ.pop("DJANGO_SETTINGS_MODULE", None)


@pytest.fixture(autouse=True)
def _celery_is_the_apps() -> None:
    """A Celery app that another folder's test created in this process has made itself the current one."""
    from config import celery_app

    celery_app.set_current()


@pytest.fixture(scope="session")
def app_folder() -> Path:
    return APP


@pytest.fixture(scope="session")
def broker_url(redis_server: Any) -> str:
    """A Redis database for these tests only."""
    return redis_server.url.rsplit("/", 1)[0] + "/1"


@pytest.fixture(scope="session")
def django_db_modify_db_settings(postgres: Any, broker_url: str) -> None:
    from django.conf import settings
    from django.db import connections

    from config import celery_app, env

    os.environ["_APP_TESTS_DATABASE"] = postgres.url
    try:
        wanted = env.database("_APP_TESTS_DATABASE")
    finally:
        del os.environ["_APP_TESTS_DATABASE"]
    for name in ("NAME", "USER", "PASSWORD", "HOST", "PORT"):
        connections.databases["default"][name] = wanted[name]
    settings.REDIS_URL = settings.CELERY_BROKER_URL = broker_url
    for cache in settings.CACHES.values():
        cache["LOCATION"] = broker_url
    celery_app.conf.update(broker_url=broker_url)


@dataclass(frozen=True)
class Message:
    task: str
    args: tuple[Any, ...]
    id: str
    eta: str | None
    headers: dict[str, Any]


@pytest.fixture
def messages(db: None, broker_url: str) -> Iterator[Callable[[str], list[Message]]]:
    """The messages in a queue of the real broker, oldest first."""
    import redis

    client: Any = redis.Redis.from_url(broker_url)
    client.flushdb()
    yield lambda queue: [_message(raw) for raw in reversed(client.lrange(queue, 0, -1))]
    client.flushdb()
    client.close()


def _message(raw: bytes) -> Message:
    import base64

    envelope = json.loads(raw)
    headers = envelope["headers"]
    args = json.loads(base64.b64decode(envelope["body"]))[0]
    return Message(headers["task"], tuple(args), headers["id"], headers["eta"], headers)


@pytest.fixture
def run_on_commit(django_capture_on_commit_callbacks: Any) -> Callable[[], Any]:
    """`with run_on_commit():` runs the hooks of a commit inside a test's transaction."""
    return lambda: django_capture_on_commit_callbacks(execute=True)


@pytest.fixture
def make_user(db: None) -> Callable[..., Any]:
    from accounts.models import User

    return lambda name="ann", **values: User.objects.create_user(name, password="rain-on-7-roofs", **values)


@pytest.fixture
def user(make_user: Callable[..., Any]) -> Any:
    return make_user()


@pytest.fixture
def channel(user: Any) -> Any:
    return user.channels.create(name="Shop", publisher="sandbox")


@pytest.fixture
def make_post(channel: Any) -> Callable[..., Any]:
    from django.utils import timezone

    from posts.models import Post

    def make(**values: Any) -> Post:
        if values.get("status") in {"scheduled", "publishing"}:
            values.setdefault("scheduled_at", timezone.now())
        if values.get("status") == "published":
            values.setdefault("published_at", timezone.now())
        owned = values.pop("channel", channel)
        return Post.objects.create(
            owner=owned.owner, channel=owned, text=values.pop("text", "hello"), **values
        )

    return make


@pytest.fixture
def client_of() -> Callable[[Any], Any]:
    from rest_framework.test import APIClient

    from accounts import tokens

    def make(user: Any) -> APIClient:
        client = APIClient()
        _, key = tokens.issue(user, "tests")
        client.credentials(HTTP_AUTHORIZATION=f"Token {key}")
        return client

    return make


@pytest.fixture
def api(user: Any, client_of: Callable[[Any], Any], messages: Any) -> Any:
    return client_of(user)


@pytest.fixture
def counter() -> Callable[..., Any]:
    """The value of a counter: `counter("posthub_ai_jobs_total", kind="caption", status="failed")`."""
    from prometheus_client import REGISTRY

    return lambda name, **labels: REGISTRY.get_sample_value(name, labels)


@dataclass
class Request:
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class OutsideMock:
    """A mock of an external service: an HTTP server with a list of answers, the last of which is repeated."""

    answers: list[tuple[int, dict[str, str], bytes]] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    url: str = ""
    hold: threading.Event | None = None

    def will_answer(self, status: int, content: Any = None, **headers: str) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        self.answers.append((status, names, body))

    def next_answer(self) -> tuple[int, dict[str, str], bytes]:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@pytest.fixture
def outside() -> Iterator[OutsideMock]:
    mock = OutsideMock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            mock.requests.append(Request(self.path, dict(self.headers), self.rfile.read(length)))
            status, headers, body = mock.next_answer()
            if mock.hold is not None:
                mock.hold.wait(20)
            try:
                self.send_response(status)
                for name, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)
            except OSError:
                pass  # some tests end the connection on purpose

        def do_GET(self) -> None:
            self.do_POST()

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    mock.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    yield mock
    if mock.hold is not None:
        mock.hold.set()
    server.shutdown()
    server.server_close()
