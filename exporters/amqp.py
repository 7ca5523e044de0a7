"""Connections to RabbitMQ with a time limit on every operation.

kombu reads the URL, chooses among several brokers and connects; after that py-amqp's connection is used directly.
Every read and write has a timeout, so a broker that hangs (a paused machine, a full disk) is detected like one that is
gone.
"""

import contextlib
import socket
import ssl
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from kombu import Connection

from exporters.broker import Broker
from sidecar.errors import UsageError

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 10.0
# Seconds for RabbitMQ to confirm that a connection is closed.
CLOSE_SECONDS = 1.0
REQUIREMENTS = {"required": ssl.CERT_REQUIRED, "optional": ssl.CERT_OPTIONAL, "none": ssl.CERT_NONE}
# Options of kombu's Redis transport, which many applications set for every broker, and our own options.
NOT_FOR_AMQP = frozenset(
    {
        "fanout_patterns",
        "fanout_prefix",
        "global_keyprefix",
        "health_check_interval",
        "master_name",
        "priority_steps",
        "queue_order_strategy",
        "sep",
        "sentinel_kwargs",
        "socket_keepalive",
        "socket_timeout",
        "unacked_index_key",
        "unacked_key",
        "visibility_timeout",
    }
)


class AmqpLink:
    """One connection to RabbitMQ.

    Args:
        broker: the broker to connect to.
        heartbeat: seconds between heartbeats; 0: RabbitMQ neither expects nor sends any.

    Raises:
        OSError: it cannot be reached, or refuses the credentials.
        UsageError: a TLS option is wrong.
    """

    def __init__(self, broker: Broker, *, heartbeat: int = 0) -> None:
        self._kombu = Connection(
            _plain_url(broker),
            ssl=tls_options(broker) or False,
            transport_options=_transport_options(broker),
            heartbeat=heartbeat,
            connect_timeout=CONNECT_SECONDS,
        )
        # Any: py-amqp has no types. kombu's own attribute of this name connects again once the connection is closed.
        self.connection: Any = None
        try:
            self._kombu.ensure_connection(max_retries=1, interval_start=0, timeout=int(2 * CONNECT_SECONDS))
        except BaseException:
            self.drop()
            raise
        self.connection = self._kombu.connection
        self.wait_at_most(ANSWER_SECONDS)

    @property
    def server_version(self) -> tuple[int, ...]:
        """RabbitMQ's version, e.g. ``(4, 0, 5)``; empty if it does not report one."""
        text = str(self.connection.server_properties.get("version", ""))
        return tuple(int(part) for part in text.split(".") if part.isdigit())

    @property
    def channel_errors(self) -> tuple[type[Exception], ...]:
        """The exceptions for a channel that RabbitMQ has closed."""
        errors: tuple[type[Exception], ...] = self.connection.channel_errors
        return errors

    @property
    def socket(self) -> socket.socket:
        """The connected socket, for a reader that replaces py-amqp's; afterwards the connection can only be dropped."""
        connected: socket.socket = self.connection.transport.sock
        return connected

    def read_ahead(self) -> bytes:
        """The bytes that py-amqp has read from the socket but not used."""
        return bytes(self.connection.transport._read_buffer)

    def wait_at_most(self, seconds: float) -> None:
        """Make every read and write fail with a TimeoutError after this time."""
        self.connection.transport.sock.settimeout(seconds)

    def close(self) -> None:
        """Close the connection, properly if the broker answers at once."""
        with contextlib.suppress(Exception):
            self.wait_at_most(CLOSE_SECONDS)
            self.connection.close()
        self.drop()

    def drop(self) -> None:
        """Close the socket without notifying the broker."""
        with contextlib.suppress(Exception):
            self.connection.transport.sock.close()
        with contextlib.suppress(Exception):
            self.connection.collapse()


def is_connection_error(error: Exception) -> bool:
    """Whether an error comes from the connection or the broker, rather than from our code."""
    from amqp.exceptions import AMQPError
    from kombu.exceptions import KombuError

    return isinstance(error, (OSError, AMQPError, KombuError))


def tls_options(broker: Broker) -> dict[str, Any]:
    """Celery's ``broker_use_ssl`` in the form of py-amqp; empty without TLS.

    Raises:
        UsageError: ``cert_reqs`` is not one of the known values.
    """
    given = {name.removeprefix("ssl_"): value for name, value in broker.tls_options().items()}
    if broker.scheme != "amqps" and not given:
        return {}
    wanted = str(given.pop("cert_reqs", "required"))
    if wanted not in REQUIREMENTS:
        raise UsageError(
            f"broker {broker.shown}: cert_reqs {wanted!r} is not valid",
            hint="CERT_REQUIRED, CERT_OPTIONAL or CERT_NONE",
        )
    given.pop("check_hostname", None)
    return {"cert_reqs": REQUIREMENTS[wanted], **given}


def _plain_url(broker: Broker) -> str:
    """The URL with the scheme that kombu knows, and without the options that are passed separately."""
    parts = []
    for url in broker.url.split(";"):
        split = urlsplit(url)
        query = "&".join(option for option in split.query.split("&") if not option.startswith("ssl_"))
        # Not librabbitmq, which kombu prefers if it is installed.
        scheme = "pyamqp" if split.scheme == "amqp" else split.scheme
        parts.append(urlunsplit((scheme, split.netloc, split.path, query, "")))
    return ";".join(parts)


def _transport_options(broker: Broker) -> dict[str, Any]:
    return {
        name: value
        for name, value in broker.options.items()
        if name not in NOT_FOR_AMQP and not name.startswith("ssl_")
    }
