"""The exporter against a real RabbitMQ and real workers."""

import contextlib
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import Mock
from urllib.parse import quote

import pytest
import requests
from amqp.exceptions import NotFound
from celery import Celery
from kombu import Exchange
from kombu import Queue as KombuQueue
from kombu.transport.native_delayed_delivery import (
    bind_queue_to_native_delayed_delivery_exchange,
    declare_native_delayed_delivery_exchanges_and_queues,
)

from exporters.amqp import AmqpLink
from exporters.broker import parse_broker
from exporters.events import amqp as events_amqp
from exporters.queues.amqp import AmqpPoller
from exporters.queues.model import Snapshot
from exporters.queues.rabbitmq_api import RabbitMqApi
from exporters.tables.state import EventState
from sidecar.errors import OpsError, UsageError
from stack.ports import choose
from stack.servers import RabbitMq
from stack.wait import wait_for
from tests.certificates import write_certificate
from tests.exporters.exporterkit import HERE, Running, Scraped, Worker, send, until

# One server for all of them.
pytestmark = pytest.mark.xdist_group("rabbitmq")


class Shared:
    """A running RabbitMQ with a TLS listener; each test has its own virtual host."""

    def __init__(self, server: Any, tls_port: int, certificate: Path) -> None:
        self.server = server
        self.tls_port = tls_port
        self.certificate = certificate
        self.made = 0

    def api(self, method: str, path: str, **body: Any) -> Any:
        answer = requests.request(method, f"{self.server.api_url}/api/{path}", json=body or None, timeout=10)
        assert answer.ok, answer.text
        return answer.json() if answer.content else None

    def vhost(self) -> str:
        self.made += 1
        name = f"v{self.made}"
        self.api("PUT", f"vhosts/{name}")
        self.api("PUT", f"permissions/{name}/guest", configure=".*", write=".*", read=".*")
        return name


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    folder, port = tmp_path_factory.mktemp("rabbitmq"), choose()
    write_certificate(folder)
    settings = [
        f"listeners.ssl.1 = 127.0.0.1:{port}",
        f"ssl_options.cacertfile = {folder}/cert.pem",
        f"ssl_options.certfile = {folder}/cert.pem",
        f"ssl_options.keyfile = {folder}/key.pem",
        "ssl_options.verify = verify_none",
        # The API counts every 5 s otherwise.
        "collect_statistics_interval = 500",
    ]
    try:
        server = RabbitMq(folder / "server", settings=settings).start()
    except OpsError as error:
        pytest.skip(f"no RabbitMQ: {error.message}; {error.hint}")
    yield Shared(server, port, folder / "cert.pem")
    server.stop()


@pytest.fixture
def vhost(shared: Shared) -> str:
    return shared.vhost()


@pytest.fixture
def url(shared: Shared, vhost: str) -> str:
    return f"amqp://guest:guest@127.0.0.1:{shared.server.port}/{vhost}"


def api_of(shared: Shared, vhost: str, **options: Any) -> RabbitMqApi:
    return RabbitMqApi(shared.server.api_url, vhost, most=5_000, **options)


def test_tasks_workers_and_queues_of_a_real_worker(
    url: str, start: Callable[..., Running], worker: Callable[..., Worker]
) -> None:
    running = start(url, inspect_interval=0.5, queues="default,missing")
    running.until(lambda s: s.get("celery_exporter_broker_up") == 1)
    send(url, "shop.add", "shop.add", "shop.mail", "shop.fail")
    worker(url)
    done = running.until(
        lambda s: (
            s.get("celery_tasks_total", state="succeeded") == 3
            and s.get("celery_tasks_total", state="failed") == 1
        )
    )
    assert done.get("celery_tasks_total", task="shop.mail", queue="mail", state="succeeded") == 1
    assert done.get("celery_tasks_total", queue="unknown") is None
    assert done.get("celery_exporter_events_undecodable_total") == 0
    asked = running.until(
        lambda s: (
            s.get("celery_queue_consumers", queue_name="mail") == 1 and s.get("celery_worker_pool_size") == 2
        )
    )
    # The broker reports it; a queue that does not exist has no value.
    assert asked.get("celery_queue_length", queue_name="default") == 0
    assert asked.get("celery_queue_length", queue_name="missing") is None
    assert asked.get("celery_exporter_collect_errors_total") == 0
    # Registered tasks start at 0, before any is sent.
    running.until(lambda s: s.get("celery_tasks_total", task="shop.retry", queue="mail", state="failed") == 0)
    until(running.ready, seconds=120)


def test_tasks_in_flight_at_a_restart_keep_their_names(
    url: str, start: Callable[..., Running], worker: Callable[..., Worker]
) -> None:
    worker(url)
    send(url, *["shop.nap"] * 4)
    running = start(url, inspect_interval=5)
    done = running.until(lambda s: (s.get("celery_tasks_total", state="succeeded") or 0) >= 4)
    assert done.get("celery_tasks_total", task="shop.nap", queue="default", state="succeeded") == 4
    assert done.get("celery_tasks_total", task="unknown") is None


def test_heartbeats_are_sent_however_busy_the_connection_is(
    shared: Shared, url: str, start: Callable[..., Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events_amqp, "HEARTBEAT_SECONDS", 2)
    running = start(url, queue_interval=4)
    until(running.ready, seconds=120)
    end, sent = time.monotonic() + 9, 0
    while time.monotonic() < end:
        send(url, "shop.add")
        sent += 1
        # The sleep is what is tested: an event twice a second leaves the connection no idle moment to notice.
        time.sleep(0.3)
    found = running.until(lambda s: s.get("celery_tasks_total", state="sent") == sent)
    assert found.get("celery_exporter_disconnects_total") == 0
    assert found.get("celery_exporter_events_complete") == 1
    assert found.get("celery_exporter_collect_errors_total") == 0
    assert not shared.server.has_logged("missed heartbeats")


def test_a_frozen_broker_is_down_and_does_not_delay_shutdown(
    tmp_path: Path, start: Callable[..., Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events_amqp, "HEARTBEAT_SECONDS", 2)
    monkeypatch.setattr("exporters.amqp.ANSWER_SECONDS", 2.0)
    try:
        server = RabbitMq(tmp_path / "rabbitmq").start()
    except OpsError as error:
        pytest.skip(f"no RabbitMQ: {error.message}; {error.hint}")
    try:
        running = start(server.url, inspect_interval=1, queues="default")
        until(running.ready, seconds=120)
        server.freeze()
        frozen = time.monotonic()
        running.until(lambda s: s.get("celery_exporter_broker_up") == 0, seconds=120)
        assert time.monotonic() - frozen < 120
        assert requests.get(f"{running.url}/readyz", timeout=5).status_code == 503
        server.thaw()
        until(running.ready, seconds=120)
        link = AmqpLink(parse_broker(server.url))
        server.freeze()
        closing = time.monotonic()
        link.close()
        link.drop()
        # kombu would connect again: twice 5 s, because the frozen broker accepts connections and answers nothing.
        assert time.monotonic() - closing < 5
        stopping = time.monotonic()
        running.exporter.stop()
        assert time.monotonic() - stopping < 30
    finally:
        server.thaw()
        server.stop()


def test_connection_lost_and_restored(
    shared: Shared, url: str, vhost: str, start: Callable[..., Running]
) -> None:
    running = start(url)
    until(running.ready, seconds=120)
    link = until_found(shared, vhost)
    shared.api("DELETE", f"connections/{quote(link)}")
    lost = running.until(lambda s: s.get("celery_exporter_disconnects_total") == 1)
    assert lost.get("celery_exporter_events_complete") == 0
    running.until(lambda s: s.get("celery_exporter_broker_up") == 1)
    send(url, "shop.add")
    assert running.until(lambda s: s.get("celery_tasks_total", state="sent") == 1)


def until_found(shared: Shared, vhost: str) -> Any:
    """The name of the connection that owns the exporter's queue."""

    def consumers() -> Any:
        return [
            c
            for c in shared.api("GET", f"consumers/{vhost}")
            if c["queue"]["name"].startswith("celeryev.exporter")
        ]

    until(consumers, seconds=120)
    return consumers()[0]["channel_details"]["connection_name"]


def test_queues_that_are_missing_are_not_shown_and_leave_no_channel(
    shared: Shared, url: str, vhost: str
) -> None:
    declare(url, "there")
    send_to(url, "there")
    poller = AmqpPoller(parse_broker(url), EventState(), configured=["there", "missing", "other"])
    try:
        for _ in range(5):
            snapshot = poller.poll()
            assert {name: queue.length for name, queue in snapshot.queues.items()} == {"there": 1}
            assert snapshot.refused == []
        until(
            lambda: len([c for c in shared.api("GET", "channels") if c["vhost"] == vhost]) <= 1, seconds=120
        )
    finally:
        poller.close()


def declare(url: str, queue: str | None, arguments: Any = None, *, auto_delete: bool = False) -> None:
    with Celery("client", broker=url, set_as_current=False) as client, client.connection_for_write() as link:
        channel: Any = link.channel()
        channel.queue_declare(queue, durable=True, auto_delete=auto_delete, arguments=arguments)


def send_to(url: str, queue: str | None, count: int = 1) -> None:
    with Celery("client", broker=url, set_as_current=False) as client:
        client.conf.task_create_missing_queues = True
        for _ in range(count):
            client.send_task("shop.add", queue=queue)


def test_a_queue_that_the_broker_refuses_to_show_is_an_error_and_not_missing(
    url: str, start: Callable[..., Running]
) -> None:
    with Celery("client", broker=url, set_as_current=False) as client, client.connection_for_write() as link:
        channel: Any = link.channel()
        channel.queue_declare("theirs", exclusive=True)
        declare(url, "ours")
        running = start(url, queues="theirs,ours")
        found = running.until(lambda s: s.get("celery_exporter_collect_errors_total", collector="queues"))
        assert found.get("celery_queue_length", queue_name="theirs") is None
        assert found.get("celery_queue_length", queue_name="ours") == 0
        assert "queue theirs" in running.exporter.pipelines[0].rounds.failing
        # The rest is reliable.
        until(running.ready, seconds=120)


def documented_rights() -> dict[str, str]:
    """The rights in the documentation: configure, write, read."""
    text = (HERE.parents[1] / "docs" / "exporter.md").read_text()
    block = text.partition("rabbitmqctl set_permissions")[2].split("```")[1]
    return dict(zip(("configure", "write", "read"), block.split(), strict=True))


def test_the_documented_rights_are_enough(
    shared: Shared, url: str, vhost: str, start: Callable[..., Running], worker: Callable[..., Worker]
) -> None:
    shared.api("PUT", "users/monitor", password="word", tags="")
    shared.api("PUT", f"permissions/{vhost}/monitor", **documented_rights())
    worker(url)
    running = start(url.replace("guest:guest", "monitor:word"), inspect_interval=0.5)
    found = running.until(lambda s: s.get("celery_worker_pool_size") == 2)
    assert found.get("celery_exporter_broker_up") == 1
    assert found.get("celery_exporter_collect_errors_total", collector="inspect") == 0


def test_the_management_api_names_queues_and_unacknowledged_messages(
    shared: Shared, url: str, vhost: str, start: Callable[..., Running], worker: Callable[..., Worker]
) -> None:
    for name, count in (("one", 4), ("two", 5), ("three", 2)):
        send_to(url, name, count)
    running = start(url, rabbitmq_api_url=shared.server.api_url)
    expected = {"one": 4, "two": 5, "three": 2}
    running.until(
        lambda s: {name: s.get("celery_queue_length", queue_name=name) for name in expected} == expected
    )
    worker(url)
    # Two run, and the third one waits in the worker.
    send(url, "shop.slow", "shop.slow", "shop.slow")
    busy = running.until(lambda s: s.get("celery_queue_unacked", queue_name="default") == 1)
    assert busy.get("celery_queue_consumers", queue_name="one") == 0
    assert not any(name.startswith("celeryev") for name in busy.values("celery_queue_length", "queue_name"))


def test_the_management_api_leaves_out_what_is_not_a_backlog(shared: Shared, url: str, vhost: str) -> None:
    declare(url, "jobs")
    # What Flower of Celery 5.6 declares under another event_queue_prefix.
    declare(url, "flower.7d0c", {"x-expires": 60_000}, auto_delete=True)
    declare(url, "log", {"x-queue-type": "stream"})
    with contextlib.closing(api_of(shared, vhost)) as api:
        until(lambda: set(api.queues().queues) == {"jobs"}, seconds=120)


def test_a_queue_without_statistics_is_asked_about(
    url: str, shared: Shared, vhost: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is new, or the server collects no statistics: neither is an empty queue."""
    declare(url, "jobs")
    send_to(url, "jobs", 3)
    monkeypatch.setattr("exporters.queues.rabbitmq_api.COLUMNS", "name,state")
    poller = AmqpPoller(parse_broker(url), EventState(), api=api_of(shared, vhost))

    def lengths() -> dict[str, int | None]:
        return {name: queue.length for name, queue in poller.poll().queues.items()}

    try:
        # The broker confirms nothing to the client, and may still be receiving.
        wait_for(
            lambda: lengths() == {"jobs": 3}, timeout=30, what="the three messages", hint="see the broker"
        )
    finally:
        poller.close()


def test_a_queue_whose_node_is_down_is_an_error_and_not_empty(
    url: str, shared: Shared, vhost: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    declare(url, "jobs")
    items = [{"name": "jobs", "messages_ready": 0}, {"name": "far", "messages_ready": 0, "state": "minority"}]
    monkeypatch.setattr(RabbitMqApi, "_page", lambda api, page: {"items": items})
    poller = AmqpPoller(parse_broker(url), EventState(), api=api_of(shared, vhost))
    try:
        found = poller.poll()
    finally:
        poller.close()
    assert (set(found.queues), found.refused) == ({"jobs"}, ["queue far: its state is minority"])


def test_a_queue_on_a_node_that_is_down_does_not_pass_for_missing() -> None:
    """Without the API; RabbitMQ returns 404 for it as well."""
    text = "NOT_FOUND - home node 'rabbit@b' of durable queue 'far' in vhost '/' is down or inaccessible"
    link = Mock(channel_errors=(NotFound,))
    link.connection.channel().queue_declare.side_effect = [
        NotFound(text),
        NotFound("NOT_FOUND - no queue 'x'"),
    ]
    poller, snapshot = AmqpPoller(parse_broker("amqp://127.0.0.1:1//"), EventState()), Snapshot()
    for name in ("far", "x"):
        assert poller._ask(link, name, snapshot) is None
    assert snapshot.refused == [f"queue far: {text}"]


@pytest.mark.parametrize("with_api", [True, False])
def test_an_alarm_of_the_broker_is_not_silence_of_workers(
    shared: Shared, url: str, start: Callable[..., Running], worker: Callable[..., Worker], with_api: bool
) -> None:
    """RabbitMQ blocks all publishers, including the workers' heartbeats."""
    api = {"rabbitmq_api_url": shared.server.api_url} if with_api else {}
    running = start(url, inspect_interval=1, worker_timeout=3, **api)
    worker(url)
    running.until(lambda s: s.get("celery_worker_up") == 1)
    until(running.ready, seconds=120)
    shared.server.control("set_disk_free_limit", "1000000GB")
    try:
        running.until(lambda s: s.get("celery_exporter_broker_up") == 0)
        assert "RabbitMQ accepts no messages" in requests.get(f"{running.url}/readyz", timeout=5).text
        (silent,) = running.exporter.pipelines[0].state.roster.workers.values()
        until(lambda: time.monotonic() - (silent.seen or 0) > 8, seconds=120)
        assert running.scrape().get("celery_worker_up") == 1
    finally:
        shared.server.control("set_disk_free_limit", "10MB")
    until(running.ready, seconds=120)
    running.until(lambda s: s.get("celery_exporter_broker_up") == 1 and s.get("celery_worker_up") == 1)


def test_virtual_hosts_and_passwords_of_any_characters(shared: Shared, start: Callable[..., Running]) -> None:
    vhost, user, word = quote("/shop/eu ž", safe=""), "monitor-ž", "p@:/ss%#?ž"
    shared.api("PUT", f"vhosts/{vhost}")
    shared.api("PUT", f"users/{quote(user)}", password=word, tags="monitoring")
    shared.api("PUT", f"permissions/{vhost}/{quote(user)}", configure=".*", write=".*", read=".*")
    login = f"{quote(user)}:{quote(word, safe='')}"
    url = f"amqp://{login}@127.0.0.1:{shared.server.port}/{vhost}"
    declare(url, "jobs")
    send_to(url, "jobs", 2)
    for api in ({}, {"rabbitmq_api_url": f"http://{login}@127.0.0.1:{shared.server.api_port}"}):
        running = start(url, queues="jobs", **api)
        running.until(lambda s: s.get("celery_queue_length", queue_name="jobs") == 2)
        until(running.ready, seconds=120)


def test_an_api_that_refuses_the_user_says_so(shared: Shared, vhost: str) -> None:
    wrong = RabbitMqApi(shared.server.api_url.replace("guest:guest", "guest:wrong"), vhost, most=10)
    with pytest.raises(OpsError, match="status 401") as refusal:
        wrong.queues()
    assert "wrong" not in f"{refusal.value} {refusal.value.hint}"


@pytest.mark.parametrize("url", ["ftp://x", "rabbitmq:15672", "http://"])
def test_a_wrong_api_url_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="RABBITMQ_API_URL"):
        RabbitMqApi(url, "/", most=1)


@pytest.mark.parametrize("spelling", ["options", "json", "url"])
def test_tls_with_an_own_certificate_authority(
    shared: Shared, vhost: str, start: Callable[..., Running], spelling: str
) -> None:
    url = f"amqps://guest:guest@localhost:{shared.tls_port}/{vhost}"
    overrides = {
        "options": {"broker_ssl_options": f"ca_certs={shared.certificate},cert_reqs=CERT_REQUIRED"},
        "json": {"broker_ssl_options": f'{{"ca_certs": "{shared.certificate}", "cert_reqs": 2}}'},
        "url": {},
    }[spelling]
    if spelling == "url":
        url += f"?ssl_ca_certs={shared.certificate}&ssl_cert_reqs=required"
    running = start(url, **overrides)
    until(lambda: requests.get(f"{running.url}/readyz", timeout=5).text == "ok\n", seconds=120)


def test_a_certificate_of_an_unknown_authority_is_refused(
    shared: Shared, vhost: str, start: Callable[..., Running]
) -> None:
    running = start(f"amqps://guest:guest@localhost:{shared.tls_port}/{vhost}")
    until(
        lambda: "certificate verify failed" in requests.get(f"{running.url}/readyz", timeout=5).text,
        seconds=120,
    )
    assert running.scrape().get("celery_exporter_broker_up") == 0


def test_remote_control_under_the_name_of_the_application(
    url: str, start: Callable[..., Running], worker: Callable[..., Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_CONTROL_EXCHANGE", "shop")
    running = start(url, inspect_interval=0.5, control_exchange="shop")
    worker(url)
    found = running.until(lambda s: s.get("celery_worker_pool_size") == 2)
    assert found.get("celery_exporter_collect_errors_total", collector="inspect") == 0


def test_a_countdown_on_a_quorum_queue_shows_in_its_queue(url: str, start: Callable[..., Running]) -> None:
    """RabbitMQ delays it natively, in its own queues."""
    running = start(url, queues="qq")
    until(running.ready, seconds=120)
    with Celery("client", broker=url, set_as_current=False) as client:
        client.conf.update(
            task_send_sent_event=True,
            task_queues=[
                KombuQueue("qq", Exchange("qq", "topic"), "qq", queue_arguments={"x-queue-type": "quorum"})
            ],
            task_default_queue="qq",
            worker_detect_quorum_queues=True,
        )
        with client.connection_for_write() as link:
            # What the first worker of a virtual host declares when it starts.
            declare_native_delayed_delivery_exchanges_and_queues(link, "quorum")
            queue = client.amqp.queues["qq"](link.default_channel)
            queue.declare()
            bind_queue_to_native_delayed_delivery_exchange(link, queue)
        client.send_task("shop.add", countdown=4)
    waiting = running.until(lambda s: s.get("celery_queue_eta_scheduled", queue_name="qq") == 1)
    assert waiting.get("celery_tasks_total", task="shop.add", queue="qq", state="sent") == 1
    assert waiting.get("celery_tasks_total", queue="unknown") is None
    assert waiting.get("celery_queue_length", queue_name="qq") == 0
    running.until(lambda s: s.get("celery_queue_length", queue_name="qq") == 1)
    running.until(lambda s: s.get("celery_queue_eta_scheduled", queue_name="qq") == 0)


def waits_in(queue: str, scraped: Scraped) -> bool:
    return scraped.get("celery_queue_length", queue_name=queue) == 1


def test_queues_with_reserved_names_are_asked_about(url: str, start: Callable[..., Running]) -> None:
    running = start(url)
    until(running.ready, seconds=120)
    for name in ("unknown", "other"):
        with Celery("client", broker=url, set_as_current=False) as client:
            client.conf.task_send_sent_event = True
            client.send_task("shop.add", queue=name)
        running.until(partial(waits_in, name))


def test_remote_control_under_another_name(
    url: str, start: Callable[..., Running], worker: Callable[..., Worker]
) -> None:
    running = start(url, inspect_interval=0.5, control_exchange="shop")
    worker(url)
    running.until(lambda s: s.get("celery_worker_up") == 1)
    running.until(lambda s: (s.get("celery_exporter_collect_duration_seconds", collector="inspect") or 0) > 0)
    # No worker replied: pools are unknown, and missing replies about queues are not shown as 0.
    silent = running.scrape()
    assert silent.get("celery_worker_pool_size") is None
    assert silent.get("celery_active_worker_count") is None
