"""The exporter's settings: ``CELERY_EXPORTER_*``, and celery-exporter's ``CE_*`` where the meaning is the same."""

import json
import logging
import re
from collections.abc import Callable
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AliasChoices, BeforeValidator, Field, SecretStr

from exporters.broker import Broker, check_credentials, parse_broker, url_secrets
from exporters.tables.budget import Limits
from exporters.tables.histogram import RUNTIME_BUCKETS, WAIT_BUCKETS, parse_buckets
from exporters.tables.roster import Labels
from exporters.tables.workers import Liveness
from sidecar import logs
from sidecar.errors import UsageError
from sidecar.settings import Settings


def _words(value: Any) -> Any:
    if isinstance(value, str):
        return tuple(word.strip() for word in value.split(",") if word.strip())
    return value


def _options(value: Any) -> Any:
    """``{"master_name": "mymaster"}`` or ``master_name=mymaster,visibility_timeout=60``."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("{"):
        try:
            return json.loads(value)
        except ValueError:
            raise ValueError("not a valid JSON object") from None
    return dict(parse_option(part) for part in re.split(r"[,\s]+", value) if part)


def _ssl_options(value: Any) -> Any:
    """Celery's broker_use_ssl; its names with or without ``ssl_`` in front."""
    options = _options(value)
    return {f"ssl_{name.removeprefix('ssl_')}": part for name, part in options.items()}


def _generic_or(otherwise: str) -> Callable[[Any], Any]:
    """Accept celery-exporter's boolean for a setting that is a choice here."""
    switch = {"true": "generic", "1": "generic", "false": otherwise, "0": otherwise}
    return lambda value: switch.get(str(value).lower(), value)


def parse_option(text: str) -> tuple[str, Any]:
    name, separator, value = text.partition("=")
    if not separator:
        raise ValueError(f"{text!r} is not of the form NAME=VALUE")
    return name.strip(), option_value(value.strip())


def option_value(text: str) -> Any:
    """A transport option's value: JSON if it is valid JSON, else text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


log = logging.getLogger(__name__)

OTHER_DATABASE_HINT = "set CELERY_EXPORTER_BEAT_TASKS to watch beat without a database"
# Rounds of inspect that a worker without heartbeats may miss before it counts as down.
REPLIES_MISSED = 2.5
# The schemes for PostgreSQL in the URLs of Django and its packages.
POSTGRES_SCHEMES = frozenset(
    {"postgres", "postgresql", "postgis", "pgsql", "timescale", "timescalegis", "psql"}
)

Words = Annotated[tuple[str, ...], BeforeValidator(_words)]
Options = Annotated[dict[str, Any], BeforeValidator(_options)]
SslOptions = Annotated[dict[str, Any], BeforeValidator(_ssl_options)]
WorkerLabel = Annotated[Literal["node", "host", "generic"], BeforeValidator(_generic_or("node"))]
ClientLabel = Annotated[Literal["host", "generic"], BeforeValidator(_generic_or("host"))]


def _servers(broker: Broker) -> frozenset[str]:
    """The hosts and ports of a broker; virtual hosts of one server have the same."""
    return frozenset(urlsplit(url).netloc.rpartition("@")[2] for url in broker.url.split(";"))


class ExporterSettings(Settings):
    """All settings of the exporter."""

    env_prefix = "CELERY_EXPORTER_"

    broker_url: SecretStr = Field(
        description="The broker, as Celery's broker_url. Several, each as NAME=URL, are separated by spaces.",
        validation_alias=AliasChoices("CE_BROKER_URL", "CELERY_BROKER_URL"),
    )
    broker_transport_options: Options = Field(
        default_factory=dict,
        description="Celery's broker_transport_options, as JSON or NAME=VALUE,…: global_keyprefix, fanout_prefix, "
        "sep, priority_steps, master_name, …",
        validation_alias=AliasChoices("CE_BROKER_TRANSPORT_OPTION"),
    )
    broker_ssl_options: SslOptions = Field(
        default_factory=dict,
        description="Celery's broker_use_ssl for rediss:// and amqps://, as JSON or NAME=VALUE,…: ca_certs, "
        "certfile, keyfile, cert_reqs.",
        validation_alias=AliasChoices("CE_BROKER_SSL_OPTION"),
    )
    host: str = Field(
        "0.0.0.0",  # noqa: S104 - a container's service must be reachable; docs say how to protect it
        description="Address to listen on.",
        validation_alias=AliasChoices("CE_HOST"),
    )
    port: int = Field(
        9808,
        ge=0,
        le=65535,
        description="Port to listen on.",
        validation_alias=AliasChoices("CE_PORT"),
    )
    web_config_file_path: str | None = Field(
        None,
        description="Prometheus web-config file (TLS, basic auth) for the exporter's own pages.",
        validation_alias=AliasChoices("CE_WEB_CONFIG_FILE_PATH"),
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO",
        description="DEBUG, INFO, WARNING or ERROR.",
        validation_alias=AliasChoices("CE_LOG_LEVEL"),
    )
    log_format: logs.Form = Field(
        "text",
        description="`text`, or `json` for the log lines of `serve`; commands always print text.",
        validation_alias=AliasChoices("LOG_FORMAT"),
    )
    queues: Words = Field(
        (),
        description="Queues to show even before a worker or a message uses them, separated by commas.",
        validation_alias=AliasChoices("CE_QUEUES"),
    )
    queue_interval: float = Field(
        5.0,
        gt=0,
        description="Seconds between two rounds of queue polling.",
    )
    inspect_interval: float = Field(
        30.0,
        ge=0,
        description="Seconds between two inspect requests to the workers (queues, pools, registered tasks); 0: never.",
    )
    render_interval: float = Field(
        1.0,
        ge=0,
        description="Maximum age in seconds of a page rendered in the background; 0: each scrape renders.",
    )
    worker_timeout: float = Field(
        15.0,
        ge=0,
        description="Seconds without a heartbeat after which a worker is down, at least three of its own intervals; "
        "0: never by time.",
        validation_alias=AliasChoices("CE_WORKER_TIMEOUT"),
    )
    worker_purge: float = Field(
        600.0,
        ge=0,
        description="Seconds of silence after which a worker's series are removed (a client's series: after an hour "
        "or more); 0: never.",
        validation_alias=AliasChoices("CE_PURGE_OFFLINE_WORKER_METRICS"),
    )
    runtime_buckets: str = Field(
        ",".join(map(str, RUNTIME_BUCKETS)),
        description="Upper bounds of the run-time histogram's buckets, in seconds.",
        validation_alias=AliasChoices("CE_BUCKETS"),
    )
    wait_buckets: str = Field(
        ",".join(map(str, WAIT_BUCKETS)),
        description="Upper bounds of the waiting-time histogram's buckets, in seconds.",
        validation_alias=AliasChoices("CE_QUEUE_WAIT_BUCKETS"),
    )
    worker_label: WorkerLabel = Field(
        "node",
        description="What the hostname label of task metrics contains: the node, its machine (host), or nothing (generic).",
        validation_alias=AliasChoices("CE_GENERIC_HOSTNAME_WORKER_TASK_METRIC"),
    )
    client_label: ClientLabel = Field(
        "host",
        description="What the hostname label of celery_task_sent_total contains: the sender's machine (host), or nothing (generic).",
        validation_alias=AliasChoices("CE_GENERIC_HOSTNAME_TASK_SENT_METRIC"),
    )
    per_host_metrics: bool = Field(
        True,
        description="Whether tasks are also counted per host, under the names of celery-exporter.",
    )
    unknown_queue: str = Field(
        "unknown",
        description="Queue label of tasks whose queue is not known.",
        validation_alias=AliasChoices("CE_DEFAULT_QUEUE_NAME"),
    )
    max_series: int = Field(
        50_000,
        ge=100,
        description="Series with a hostname label that tasks may have; beyond that, tasks are counted only without a host.",
    )
    max_in_flight: int = Field(
        120_000,
        ge=100,
        description="Maximum number of waiting tasks that are tracked by ID, about 25 bytes each; beyond it, a random sample is tracked.",
    )
    max_names: int = Field(
        2_000,
        ge=10,
        description="Maximum number of pairs of task and queue; a new one replaces those that have been idle longest.",
    )
    max_workers: int = Field(
        3_000,
        ge=1,
        description="Maximum number of workers with their own series.",
    )
    backlog_bytes: int = Field(
        64 << 20,
        ge=1 << 20,
        description="Bytes of events that may wait undecoded; more is dropped and counted.",
    )
    complete_window: float = Field(
        300.0,
        gt=0,
        description="Seconds without any loss after which celery_exporter_events_complete is 1 again.",
    )
    event_exchange: str = Field(
        "celeryev",
        description="Celery's event_exchange.",
    )
    control_exchange: str = Field(
        "celery",
        description="Celery's control_exchange, for the inspect requests.",
    )
    rabbitmq_api_url: SecretStr | None = Field(
        None,
        description="RabbitMQ's management API with its user, http://USER:PASSWORD@HOST:15672: names of queues that "
        "are not known otherwise, unacknowledged messages, and alarms. For several servers, each as NAME=URL with the broker's "
        "name, separated by spaces. Optional.",
    )
    database_url: SecretStr | None = Field(
        None,
        description="PostgreSQL with django-celery-beat's tables, for the beat metrics. Optional.",
        validation_alias=AliasChoices("DATABASE_URL"),
    )
    beat_interval: float = Field(
        15.0,
        gt=0,
        description="Seconds between two readings of beat's schedules.",
    )
    beat_tasks: Words = Field(
        (),
        description="Tasks that only beat sends; they show without a database whether beat is alive.",
    )
    beat_grace: float = Field(
        240.0,
        ge=0,
        description="Seconds that every schedule may be overdue before beat counts as down; django-celery-beat "
        "writes last runs back every 180 s.",
    )

    def brokers(self) -> list[Broker]:
        """The brokers to watch.

        Raises:
            UsageError: a URL is malformed, or two brokers have the same name.
        """
        options = {**self.broker_transport_options, **self.broker_ssl_options}
        found = [parse_broker(text, options) for text in self.broker_url.get_secret_value().split()]
        names = [broker.name for broker in found]
        if len(set(names)) < len(names):
            raise UsageError(
                f"two brokers have the same name: {', '.join(names)}", hint="give each as NAME=URL"
            )
        return found

    def rabbitmq_apis(self) -> dict[str, str]:
        """The URL of RabbitMQ's management API for each broker that has one, by the broker's name.

        Raises:
            UsageError: it is not clear which broker a URL belongs to.
        """
        if self.rabbitmq_api_url is None:
            return {}
        servers = {broker.name: _servers(broker) for broker in self.brokers() if not broker.is_redis}
        found: dict[str, str] = {}
        for word in self.rabbitmq_api_url.get_secret_value().split():
            name, separator, url = word.partition("=")
            if separator and "://" not in name:
                if name not in servers:
                    raise UsageError(
                        f"CELERY_EXPORTER_RABBITMQ_API_URL names {name!r}, which is not a RabbitMQ broker",
                        hint=f"the names are {', '.join(sorted(servers)) or 'those of amqp:// brokers'}",
                    )
                found[name] = url
            elif len(set(servers.values())) > 1 or found:
                raise UsageError(
                    "CELERY_EXPORTER_RABBITMQ_API_URL does not name its broker, and there are several servers",
                    hint="give each as NAME=URL, with the broker's name",
                )
            else:
                found = dict.fromkeys(servers, word)
        return found

    def limits(self) -> Limits:
        return Limits(
            in_flight=self.max_in_flight,
            series=self.max_series,
            names=self.max_names,
            workers=self.max_workers,
        )

    def labels(self) -> Labels:
        return Labels(self.worker_label, self.client_label, self.unknown_queue)

    def liveness(self) -> Liveness:
        return Liveness(self.worker_timeout, self.worker_purge, REPLIES_MISSED * self.inspect_interval)

    def buckets(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """The bounds of the runtime and the wait histogram."""
        return parse_buckets(self.runtime_buckets), parse_buckets(self.wait_buckets)

    def schedules_url(self) -> str | None:
        """The database of beat's schedules, as a URL for libpq; None if there is none.

        ``DATABASE_URL`` is often the application's own, so another kind of database is not an error.
        """
        if self.database_url is None:
            return None
        scheme, separator, rest = self.database_url.get_secret_value().partition("://")
        if separator and scheme.partition("+")[0].lower() not in POSTGRES_SCHEMES:
            log.warning(
                "beat's schedules are read from PostgreSQL only, not from %s: %s", scheme, OTHER_DATABASE_HINT
            )
            return None
        return f"postgresql://{rest}" if separator else scheme

    def secrets(self) -> list[str]:
        """Only the passwords: the rest of an address is useful in the log."""
        urls = [broker.secrets for broker in self.brokers()]
        urls += [url_secrets(url) for url in self.rabbitmq_apis().values()]
        if self.database_url is not None:
            url = self.database_url.get_secret_value()
            check_credentials(url, "DATABASE_URL")
            urls.append(url_secrets(url))
        return [secret for found in urls for secret in found]
