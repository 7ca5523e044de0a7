"""The exporter's settings: ``CELERY_EXPORTER_*``, and celery-exporter's ``CE_*`` where the meaning is the same."""

import json
import re
from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BeforeValidator, Field, SecretStr

from exporters.broker import Broker, check_credentials, parse_broker, url_secrets
from exporters.tables.histogram import RUNTIME_BUCKETS, WAIT_BUCKETS, parse_buckets
from exporters.tables.state import Labels, Limits
from exporters.tables.workers import Liveness
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
            raise ValueError("no valid JSON object") from None
    return dict(parse_option(part) for part in re.split(r"[,\s]+", value) if part)


def _ssl_options(value: Any) -> Any:
    """Celery's broker_use_ssl; its names with or without ``ssl_`` in front."""
    options = _options(value)
    return {f"ssl_{name.removeprefix('ssl_')}": part for name, part in options.items()}


def _generic_or(otherwise: str) -> Callable[[Any], Any]:
    """celery-exporter has a switch where there is a choice here."""
    switch = {"true": "generic", "1": "generic", "false": otherwise, "0": otherwise}
    return lambda value: switch.get(str(value).lower(), value)


def parse_option(text: str) -> tuple[str, Any]:
    name, separator, value = text.partition("=")
    if not separator:
        raise ValueError(f"{text!r} has no NAME=VALUE form")
    return name.strip(), option_value(value.strip())


def option_value(text: str) -> Any:
    """A transport option's value: JSON where it is some, else text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


Words = Annotated[tuple[str, ...], BeforeValidator(_words)]
Options = Annotated[dict[str, Any], BeforeValidator(_options)]
SslOptions = Annotated[dict[str, Any], BeforeValidator(_ssl_options)]
WorkerLabel = Annotated[Literal["node", "host", "generic"], BeforeValidator(_generic_or("node"))]
ClientLabel = Annotated[Literal["host", "generic"], BeforeValidator(_generic_or("host"))]


class ExporterSettings(Settings):
    """Everything that can be set."""

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
        description="Celery's broker_use_ssl for rediss://, as JSON or NAME=VALUE,…: ca_certs, certfile, keyfile, "
        "cert_reqs.",
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
    queues: Words = Field(
        (),
        description="Queues that are shown even when nothing mentions them yet, separated by commas.",
        validation_alias=AliasChoices("CE_QUEUES"),
    )
    queue_interval: float = Field(
        5.0,
        gt=0,
        description="Seconds between two looks at the queues.",
    )
    inspect_interval: float = Field(
        30.0,
        ge=0,
        description="Seconds between two questions to the workers about their queues and pools; 0: never ask.",
    )
    render_interval: float = Field(
        1.0,
        ge=0,
        description="Seconds between two renderings of /metrics, which scrapes are then handed; 0: each scrape renders.",
    )
    worker_timeout: float = Field(
        15.0,
        ge=0,
        description="Seconds without a heartbeat after which a worker is down; 0: never by time.",
        validation_alias=AliasChoices("CE_WORKER_TIMEOUT"),
    )
    worker_purge: float = Field(
        600.0,
        ge=0,
        description="Seconds of silence after which a worker's series are forgotten, a client's after an hour at the "
        "soonest; 0: never.",
        validation_alias=AliasChoices("CE_PURGE_OFFLINE_WORKER_METRICS"),
    )
    runtime_buckets: str = Field(
        ",".join(map(str, RUNTIME_BUCKETS)),
        description="Upper bounds of the run-time histogram's buckets.",
        validation_alias=AliasChoices("CE_BUCKETS"),
    )
    wait_buckets: str = Field(
        ",".join(map(str, WAIT_BUCKETS)),
        description="Upper bounds of the waiting-time histogram's buckets.",
        validation_alias=AliasChoices("CE_QUEUE_WAIT_BUCKETS"),
    )
    worker_label: WorkerLabel = Field(
        "node",
        description="What the hostname label of task metrics tells: the node, its machine, or nothing (generic).",
        validation_alias=AliasChoices("CE_GENERIC_HOSTNAME_WORKER_TASK_METRIC"),
    )
    client_label: ClientLabel = Field(
        "host",
        description="What the hostname label of celery_task_sent_total tells: the sender's machine, or nothing.",
        validation_alias=AliasChoices("CE_GENERIC_HOSTNAME_TASK_SENT_METRIC"),
    )
    per_host_metrics: bool = Field(
        True,
        description="Whether the task metrics with a hostname label (celery-exporter's names) are exposed at all.",
    )
    unknown_queue: str = Field(
        "unknown",
        description="Queue label of tasks whose queue nothing tells.",
        validation_alias=AliasChoices("CE_DEFAULT_QUEUE_NAME"),
    )
    max_series: int = Field(
        50_000,
        ge=100,
        description="Series that the event tables may hold; more are counted under `other`.",
    )
    max_in_flight: int = Field(
        50_000,
        ge=100,
        description="Tasks in flight that are joined by id; about 300 bytes each.",
    )
    backlog_bytes: int = Field(
        64 << 20,
        ge=1 << 20,
        description="Bytes of events that may wait undecoded; more are dropped and counted.",
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
    database_url: SecretStr | None = Field(
        None,
        description="PostgreSQL with django-celery-beat's tables, for the beat metrics. Optional.",
        validation_alias=AliasChoices("DATABASE_URL"),
    )
    beat_interval: float = Field(
        15.0,
        gt=0,
        description="Seconds between two looks at beat's schedules.",
    )
    beat_tasks: Words = Field(
        (),
        description="Tasks that beat alone sends; tells beat's liveness without a database.",
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
            UsageError: a URL is malformed, or two brokers have one name.
        """
        options = {**self.broker_transport_options, **self.broker_ssl_options}
        found = [parse_broker(text, options) for text in self.broker_url.get_secret_value().split()]
        names = [broker.name for broker in found]
        if len(set(names)) < len(names):
            raise UsageError(f"two brokers have one name: {', '.join(names)}", hint="give each as NAME=URL")
        return found

    def limits(self) -> Limits:
        return Limits(in_flight=self.max_in_flight, series=self.max_series)

    def labels(self) -> Labels:
        return Labels(self.worker_label, self.client_label, self.unknown_queue)

    def liveness(self) -> Liveness:
        return Liveness(self.worker_timeout, self.worker_purge)

    def buckets(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """The bounds of the runtime and the wait histogram."""
        return parse_buckets(self.runtime_buckets), parse_buckets(self.wait_buckets)

    def secrets(self) -> list[str]:
        """Passwords only: an address in the log is of use."""
        urls = [broker.secrets for broker in self.brokers()]
        if self.database_url is not None:
            url = self.database_url.get_secret_value()
            check_credentials(url, "DATABASE_URL")
            urls.append(url_secrets(url))
        return [secret for found in urls for secret in found]
