"""Settings by our names and by celery-exporter's."""

from typing import Any

import pytest

from exporters.settings import ExporterSettings
from sidecar.errors import UsageError

URL = {"CE_BROKER_URL": "redis://:hidden-word@h/1"}


def load(**environ: str) -> ExporterSettings:
    return ExporterSettings.load({**URL, **environ})


def test_names_of_celery_exporter() -> None:
    settings = load(
        CE_PORT="9999",
        CE_QUEUES="default, mail",
        CE_BUCKETS="1,2.5,+Inf",
        CE_WORKER_TIMEOUT="300",
        CE_DEFAULT_QUEUE_NAME="celery",
        CE_GENERIC_HOSTNAME_TASK_SENT_METRIC="true",
        CE_GENERIC_HOSTNAME_WORKER_TASK_METRIC="False",
        CE_BROKER_TRANSPORT_OPTION="global_keyprefix=shop: fanout_prefix=false",
        CE_BROKER_SSL_OPTION="ca_certs=/ca.pem",
    )
    assert settings.port == 9999
    assert settings.queues == ("default", "mail")
    assert settings.buckets()[0] == (1.0, 2.5)
    assert (settings.labels().worker, settings.labels().client) == ("node", "generic")
    assert settings.labels().unknown_queue == "celery"
    (broker,) = settings.brokers()
    assert broker.options == {"global_keyprefix": "shop:", "fanout_prefix": False, "ssl_ca_certs": "/ca.pem"}


def test_transport_options_as_json() -> None:
    options = load(
        CELERY_EXPORTER_BROKER_TRANSPORT_OPTIONS='{"priority_steps": [0, 5]}'
    ).broker_transport_options
    assert options == {"priority_steps": [0, 5]}


def test_secrets_are_the_passwords() -> None:
    settings = load(DATABASE_URL="postgresql://u:other-word@h/db?application_name=a@b")
    assert set(settings.secrets()) == {"hidden-word", "other-word"}


def test_two_brokers_have_two_names() -> None:
    with pytest.raises(UsageError, match="two brokers have the same name: a, b, a"):
        load(CE_BROKER_URL="a=redis://h/1 b=redis://h/2 a=redis://i/1").brokers()


def test_a_worker_without_heartbeats_may_miss_two_replies() -> None:
    assert load(CELERY_EXPORTER_INSPECT_INTERVAL="20").liveness().reply_timeout == 50.0


def with_apis(brokers: str, apis: str) -> ExporterSettings:
    return load(CE_BROKER_URL=brokers, CELERY_EXPORTER_RABBITMQ_API_URL=apis)


@pytest.mark.parametrize(
    ("brokers", "apis", "expected"),
    [
        ("amqp://h/shop", "http://u:word@h:15672", {"h/shop": "http://u:word@h:15672"}),
        (
            "a=amqp://u@h/shop b=amqp://h/blog c=redis://r/0",
            "http://h:1",
            {"a": "http://h:1", "b": "http://h:1"},
        ),
        ("a=amqp://h/ b=amqp://i/", "b=http://i:1 a=http://h:1", {"a": "http://h:1", "b": "http://i:1"}),
        ("a=amqp://h/ b=amqp://i/", "b=http://i:1", {"b": "http://i:1"}),
        ("redis://r/0", "http://h:1", {}),
    ],
)
def test_each_broker_has_its_own_management_api(brokers: str, apis: str, expected: dict[str, str]) -> None:
    assert with_apis(brokers, apis).rabbitmq_apis() == expected


@pytest.mark.parametrize(
    ("brokers", "apis"),
    [
        ("a=amqp://h/ b=amqp://i/", "http://h:1"),
        ("a=amqp://h/ b=amqp://i/", "a=http://h:1 http://i:1"),
        ("a=amqp://h/", "shop=http://h:1"),
        ("a=amqp://h/", "http://h:1 http://i:1"),
    ],
)
def test_one_servers_api_is_never_used_for_another_server(brokers: str, apis: str) -> None:
    """Both may have a queue of the same name."""
    with pytest.raises(UsageError, match="RABBITMQ_API_URL"):
        with_apis(brokers, apis).rabbitmq_apis()


def test_the_password_of_the_management_api_is_a_secret() -> None:
    assert with_apis("amqp://h/", "http://u:api-word@h:15672").secrets() == ["api-word", "api-word"]


def test_a_database_password_that_is_not_escaped_is_refused_and_not_shown() -> None:
    with pytest.raises(UsageError, match="DATABASE_URL") as refusal:
        load(DATABASE_URL="postgresql://u:other/word@h/db").secrets()
    assert "other" not in str(refusal.value)


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"CE_PORT": "many"}, "CELERY_EXPORTER_PORT=many"),
        ({"CELERY_EXPORTER_BROKER_TRANSPORT_OPTIONS": "{"}, "not a valid JSON"),
        ({"CELERY_EXPORTER_WORKER_LABEL": "colour"}, "CELERY_EXPORTER_WORKER_LABEL=colour"),
    ],
)
def test_wrong_values_are_named(environ: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load(**environ)


@pytest.mark.parametrize("buckets", ["x", "2,1", "0,1", "", "1,1"])
def test_wrong_buckets(buckets: str) -> None:
    with pytest.raises(UsageError, match="buckets"):
        load(CELERY_EXPORTER_RUNTIME_BUCKETS=buckets or ",").buckets()


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql://u@h/db", "postgresql://u@h/db"),
        ("postgis://u@h/db", "postgresql://u@h/db"),
        ("postgresql+psycopg://u@h/db", "postgresql://u@h/db"),
        ("PostgreSQL://u@h/db", "postgresql://u@h/db"),
        ("mysql://u@h/db", None),
        ("sqlite:////tmp/db.sqlite3", None),
    ],
)
def test_only_postgresql_is_read_for_schedules(
    url: str, expected: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    assert load(DATABASE_URL=url).schedules_url() == expected
    assert ("read from PostgreSQL only" in caplog.text) == (expected is None)
