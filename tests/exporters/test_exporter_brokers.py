"""Every way to a broker: prefixes, databases, sockets, TLS, passwords, Sentinel, kombu, several at once."""

import json
import subprocess
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import requests

from exporters.broker import parse_broker, redis_settings
from exporters.events.redis import glob_escaped, patterns
from sidecar.errors import UsageError
from stack.ports import choose
from stack.programs import find
from stack.servers import Redis
from tests.certificates import write_certificate
from tests.exporters.exporterkit import HERE, Running, send, until


def emit(client: redis.Redis, channel: str, kind: str = "task-sent", **fields: Any) -> Any:
    """Publish one event as kombu does."""
    event = {
        "type": kind,
        "uuid": "u1",
        "hostname": "gen1@web",
        "name": "shop.add",
        "queue": "default",
        "eta": None,
        "timestamp": time.time(),
        **fields,
    }
    frame = {
        "body": b64encode(json.dumps(event).encode()).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {},
        "properties": {"body_encoding": "base64"},
    }
    return client.publish(channel, json.dumps(frame))


def counts_event_on(running: Running, client: redis.Redis, channel: str) -> bool:
    """Whether an event on this channel is counted."""
    until(lambda: requests.get(f"{running.url}/readyz", timeout=5).status_code == 200, seconds=120)
    before = running.scrape().get("celery_tasks_total", state="sent") or 0
    emit(client, channel)
    running.until(lambda s: s.get("celery_tasks_total", state="sent") == before + 1, seconds=120)
    return True


@pytest.mark.parametrize(
    ("options", "channel"),
    [
        ({}, "/0.celeryev/task.sent"),
        ({}, "/0.celeryev"),
        ({"fanout_prefix": False}, "celeryev/task.sent"),
        ({"fanout_prefix": "shop[{db}]."}, "shop[0].celeryev/task.sent"),
        ({"global_keyprefix": "shop:*:"}, "shop:*:/0.celeryev/task.sent"),
    ],
)
def test_channel_variants(
    broker: str, start: Callable[..., Running], options: dict[str, Any], channel: str
) -> None:
    running = start(broker, broker_transport_options=options)
    with redis.Redis.from_url(broker) as client:
        assert counts_event_on(running, client, channel)


def test_other_databases_are_not_mixed_in(broker: str, start: Callable[..., Running]) -> None:
    running = start(broker.removesuffix("/0") + "/3")
    with redis.Redis.from_url(broker) as client:
        assert counts_event_on(running, client, "/3.celeryev/task.sent")
        assert emit(client, "/0.celeryev/task.sent") == 0


def test_unix_socket_and_password(tmp_path: Path, start: Callable[..., Running]) -> None:
    socket = tmp_path / "r.sock"
    options = {"unixsocket": str(socket), "unixsocketperm": "700"}
    with Redis(tmp_path / "redis", options=options) as server, redis.Redis(port=server.port) as client:
        client.config_set("requirepass", "secret word/@")
        running = start(f"redis+socket://:secret%20word%2F%40@{socket}?virtual_host=2")
        client.auth("secret word/@")
        assert counts_event_on(running, client, "/2.celeryev/task.sent")


def documented_user() -> list[str]:
    """The words of the ACL SETUSER command in the documentation."""
    text = (HERE.parents[1] / "docs" / "exporter.md").read_text()
    command = text.partition("ACL SETUSER ")[2].partition("```")[0]
    return command.replace("PASSWORD", "word").split()


@pytest.mark.parametrize("db", ["0", "3"])
def test_the_documented_user_has_every_privilege_needed(
    tmp_path: Path, start: Callable[..., Running], db: str
) -> None:
    with Redis(tmp_path / "redis") as server, redis.Redis(port=server.port) as client:
        client.execute_command(
            "ACL", "SETUSER", *(rule.replace("/0.", f"/{db}.") for rule in documented_user())
        )
        running = start(f"redis://monitor:word@127.0.0.1:{server.port}/{db}", inspect_interval=0.5)
        assert counts_event_on(running, client, f"/{db}.celeryev/task.sent")
        asked = running.until(
            lambda s: s.get("celery_exporter_collect_duration_seconds", collector="inspect")
        )
        assert asked.get("celery_exporter_output_buffer_bytes") is not None
        assert asked.get("celery_exporter_collect_errors_total") == 0
        # The client library's greeting, from Redis 7.2 on; older servers have no rule for it.
        assert [entry for entry in client.acl_log() if entry["object"] != "client|setinfo"] == []


def test_a_refused_subscription_is_reported(tmp_path: Path, start: Callable[..., Running]) -> None:
    with Redis(tmp_path / "redis") as server, redis.Redis(port=server.port) as client:
        client.execute_command("ACL", "SETUSER", "monitor", "on", ">word", "+@all", "~*", "resetchannels")
        running = start(f"redis://monitor:word@127.0.0.1:{server.port}/0")
        until(lambda: "refused: NOPERM" in requests.get(f"{running.url}/readyz", timeout=5).text, seconds=120)


@pytest.fixture(scope="module")
def tls_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp("tls-redis")
    write_certificate(folder)
    cert, key, port = folder / "cert.pem", folder / "key.pem", choose()
    options = {
        "tls-port": str(port),
        "tls-cert-file": str(cert),
        "tls-key-file": str(key),
        "tls-ca-cert-file": str(cert),
        "tls-auth-clients": "no",
    }
    with Redis(folder / "redis", options=options) as server:
        yield server, port, cert


def test_tls(tls_redis: Any, start: Callable[..., Running]) -> None:
    server, port, cert = tls_redis
    running = start(f"rediss://localhost:{port}/0?ssl_cert_reqs=CERT_REQUIRED&ssl_ca_certs={cert}")
    with redis.Redis(port=server.port) as client:
        assert counts_event_on(running, client, "/0.celeryev/task.sent")
        # More than fits into one TLS record and one read.
        for n in range(3_000):
            emit(client, "/0.celeryev/task.sent", uuid=f"u{n}", args="x" * 500)
    running.until(lambda s: s.get("celery_tasks_total", state="sent") == 3_001)


def test_an_unknown_certificate_is_refused(tls_redis: Any, start: Callable[..., Running]) -> None:
    _, port, _ = tls_redis
    running = start(f"rediss://localhost:{port}/0")
    time.sleep(1)
    assert running.scrape().get("celery_exporter_broker_up") == 0


def test_sentinel(tmp_path: Path, start: Callable[..., Running]) -> None:
    with Redis(tmp_path / "redis") as server:
        port = choose()
        config = tmp_path / "sentinel.conf"
        config.write_text(f"port {port}\ndir {tmp_path}\nsentinel monitor shop 127.0.0.1 {server.port} 1\n")
        with subprocess.Popen(
            [str(find("redis-server")), str(config), "--sentinel"], stdout=subprocess.DEVNULL
        ) as process:
            try:
                running = start(
                    f"sentinel://127.0.0.1:1/0;sentinel://127.0.0.1:{port}/0",
                    broker_transport_options={"master_name": "shop"},
                )
                with redis.Redis(port=server.port) as client:
                    assert counts_event_on(running, client, "/0.celeryev/task.sent")
            finally:
                process.kill()


def test_several_brokers_and_one_unreachable(broker: str, start: Callable[..., Running]) -> None:
    running = start(f"shop={broker} away=redis://127.0.0.1:1/0")
    send(broker, "shop.add")
    found = running.until(lambda s: s.get("celery_tasks_total", broker="shop", state="sent") == 1)
    assert found.get("celery_exporter_broker_up", broker="shop") == 1
    assert found.get("celery_exporter_broker_up", broker="away") == 0
    one = requests.get(f"{running.url}/probe", params={"target": "shop"}, timeout=5).text
    assert 'celery_tasks_total{task="shop.add",queue="default",state="sent"} 1' in one
    assert requests.get(f"{running.url}/probe", params={"target": "x"}, timeout=5).status_code == 400
    assert requests.get(f"{running.url}/readyz", timeout=5).status_code == 503
    assert requests.get(f"{running.url}/healthz", timeout=5).status_code == 200


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://u:p%40ss@h:1/2", {"host": "h", "port": 1, "db": 2, "username": "u", "password": "p@ss"}),
        ("redis://", {"host": "127.0.0.1", "port": 6379, "db": 0}),
        ("redis+socket:///run/r.sock?virtual_host=4", {"path": "/run/r.sock", "db": 4}),
        ("rediss://h/0", {"host": "h", "port": 6379, "db": 0, "ssl_cert_reqs": "required"}),
        ("rediss://h?ssl_cert_reqs=CERT_NONE", {"host": "h", "port": 6379, "db": 0, "ssl_cert_reqs": "none"}),
    ],
)
def test_urls(url: str, expected: dict[str, Any]) -> None:
    assert dict(redis_settings(parse_broker(url)).connection) == expected


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ({"ssl_cert_reqs": 0}, {"ssl_cert_reqs": "none"}),
        ({"ssl_cert_reqs": "CERT_OPTIONAL"}, {"ssl_cert_reqs": "optional"}),
        ({"ssl_check_hostname": "false"}, {"ssl_check_hostname": False}),
        ({"ssl_check_hostname": True}, {"ssl_check_hostname": True}),
    ],
)
def test_tls_options_mean_the_same_wherever_they_are_given(
    option: dict[str, Any], expected: dict[str, Any]
) -> None:
    query = "&".join(f"{name}={value}" for name, value in option.items())
    given = redis_settings(parse_broker("rediss://h/0", option)).connection
    in_url = redis_settings(parse_broker(f"rediss://h/0?{query}")).connection
    for connection in (given, in_url):
        assert {name: connection[name] for name in expected} == expected


def test_a_list_of_redis_servers_is_tried_in_order(tmp_path: Path, start: Callable[..., Running]) -> None:
    first = Redis(tmp_path / "first")
    with Redis(tmp_path / "second") as second, redis.Redis(port=second.port) as client:
        running = start(f"redis://127.0.0.1:{first.port}/0;redis://127.0.0.1:{second.port}/0")
        assert counts_event_on(running, client, "/0.celeryev/task.sent")
        with first:
            second.kill()
            with redis.Redis(port=first.port) as other:
                until(lambda: other.pubsub_numpat() > 0, seconds=120)
                assert counts_event_on(running, other, "/0.celeryev/task.sent")


@pytest.mark.parametrize("url", ["redis://a/0;unix:///run/r.sock", "redis://a/0;amqp://b"])
def test_a_list_of_different_kinds_of_servers_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="list of servers"):
        parse_broker(url)


def test_a_password_is_never_shown() -> None:
    broker = parse_broker("redis://u:hidden%40word@h:1/2")
    assert broker.shown == "redis://h:1/2"
    assert "hidden" not in repr(broker)
    assert set(broker.secrets) == {"hidden%40word", "hidden@word"}
    options = {"password": "one", "sentinel_kwargs": {"password": "two"}, "master_name": "shop"}
    assert set(parse_broker("sentinel://h", options).secrets) == {"one", "two"}


@pytest.mark.parametrize("scheme", ["redis", "amqp", "name=rediss"])
@pytest.mark.parametrize("password", ["hidden/word", "hidden?word", "hidden#word", "hidden[word", "/hidden"])
def test_a_password_that_is_not_escaped_is_refused_and_not_shown(scheme: str, password: str) -> None:
    with pytest.raises(UsageError) as refusal:
        parse_broker(f"{scheme}://user:{password}@h:1/0")
    assert "hidden" not in f"{refusal.value} {refusal.value.hint}"


def test_a_socket_path_may_contain_an_at_sign() -> None:
    assert redis_settings(parse_broker("redis+socket:///run/a@b.sock")).connection["path"] == "/run/a@b.sock"


@pytest.mark.parametrize("url", ["", "x", "ftp://h", "redis://h/zero", "sentinel://h", "redis://h:port/0"])
def test_wrong_urls(url: str) -> None:
    with pytest.raises(UsageError):
        parse_broker(url)


def test_patterns_are_taken_literally() -> None:
    assert glob_escaped("a*b[c]?") == "a\\*b\\[c\\]\\?"
    assert patterns("", "/0.") == ["/0.celeryev/*", "/0.celeryev"]
