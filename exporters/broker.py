"""Broker URLs in Celery's format, and Redis connections for them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import redis
from redis.sentinel import Sentinel

from sidecar.errors import UsageError

REDIS_SCHEMES = frozenset({"redis", "rediss", "redis+socket", "socket", "unix", "sentinel"})
AMQP_SCHEMES = frozenset({"amqp", "amqps", "pyamqp"})
CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 10.0
SENTINEL_PORT = 26379
# Celery accepts the names and numbers of the ssl module; URLs have different names for them.
_CERTIFICATES = {
    "cert_required": "required",
    "cert_optional": "optional",
    "cert_none": "none",
    "2": "required",
    "1": "optional",
    "0": "none",
    "verifymode.cert_required": "required",
    "verifymode.cert_optional": "optional",
    "verifymode.cert_none": "none",
}
_BOOLEANS = {
    "true": True,
    "1": True,
    "yes": True,
    "on": True,
    "false": False,
    "0": False,
    "no": False,
    "off": False,
}
# Boolean TLS options: the text "false" in a URL must not count as true.
_SWITCHES = frozenset({"ssl_check_hostname", "ssl_validate_ocsp", "ssl_validate_ocsp_stapled"})
# kombu's default steps are 0, 3, 6 and 9. An application may use others that the exporter does not know, and polling
# all of them costs little.
ALL_STEPS = range(10)


@dataclass(frozen=True)
class Broker:
    """One broker.

    Attributes:
        name: the value of the ``broker`` label.
        url: as Celery's ``broker_url``. It may contain a password, so it is never printed.
        options: as Celery's ``broker_transport_options``.
    """

    name: str
    url: str = field(repr=False)
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def scheme(self) -> str:
        return self.url.partition(":")[0].lower()

    @property
    def is_redis(self) -> bool:
        return self.scheme in REDIS_SCHEMES

    @property
    def shown(self) -> str:
        """The URL without credentials and options."""
        hosts = [_shown_host(part) for part in self.url.split(";")]
        return ";".join(hosts)

    def tls_options(self) -> dict[str, Any]:
        """The TLS options, named ``ssl_…``, from the transport options and the URL; those in the URL win."""
        query = parse_qsl(urlsplit(self.url.partition(";")[0]).query)
        given = {**self.options, **dict(query)}
        return {name: _tls_value(name, value) for name, value in given.items() if name.startswith("ssl_")}

    @property
    def secrets(self) -> list[str]:
        """The passwords in the URL, as written and decoded, and in the options."""
        return [*url_secrets(self.url), *_option_secrets(self.options)]


def _tls_value(name: str, value: Any) -> Any:
    text = str(value).lower()
    if name == "ssl_cert_reqs":
        return _CERTIFICATES.get(text, text)
    if name in _SWITCHES and text in _BOOLEANS:
        return _BOOLEANS[text]
    return value


def url_secrets(url: str) -> list[str]:
    """The passwords in one or several URLs, as written and decoded."""
    found = [urlsplit(part).password for part in url.split(";")]
    return [form for secret in found if secret for form in (secret, unquote(secret))]


def _option_secrets(options: Mapping[str, Any]) -> Iterator[str]:
    for name, value in options.items():
        if isinstance(value, Mapping):
            yield from _option_secrets(value)
        elif name.endswith("password") and value:
            yield str(value)


def _shown_host(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def parse_broker(text: str, options: Mapping[str, Any] | None = None) -> Broker:
    """A broker from ``[NAME=]URL``.

    Raises:
        UsageError: brokers with this scheme do not carry Celery events.
    """
    name, separator, url = text.partition("=")
    if not separator or "://" in name:
        name, url = "", text
    check_credentials(url, "the broker's URL")
    broker = Broker(name or _default_name(url), url, dict(options or {}))
    if "://" not in url or broker.scheme not in REDIS_SCHEMES | AMQP_SCHEMES:
        raise UsageError(
            f"broker URL with scheme {broker.scheme!r} is not supported",
            hint="redis://, rediss://, sentinel://, redis+socket:// or amqp://, for example redis://127.0.0.1:6379/0",
        )
    if broker.is_redis:
        redis_settings(broker)
    return broker


def check_credentials(url: str, what: str) -> None:
    """Reject a URL whose password cannot be separated from the rest: it would be shown and logged with the address.

    Raises:
        UsageError: the URL is ambiguous; the message does not show it.
    """
    if not all(_is_clear(part) for part in url.split(";")):
        raise UsageError(
            f"{what} is malformed, or its password contains an unescaped / ? # [ ] or @",
            hint="write them as %2F %3F %23 %5B %5D %40, for example redis://:pa%2Fss@host:6379/0",
        )


def _is_clear(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:  # a stray bracket
        return False
    # A socket's path may contain an @ if no user precedes it, and an option's value if one does.
    path = "" if _is_socket(parts.scheme) and not parts.netloc else parts.path
    rest = "" if "@" in parts.netloc else f"{parts.query}{parts.fragment}"
    return "@" not in path + rest


def _default_name(url: str) -> str:
    parts = urlsplit(url.split(";", maxsplit=1)[0])
    return (parts.netloc.rpartition("@")[2] + parts.path).strip("/") or "broker"


@dataclass(frozen=True)
class RedisSettings:
    """How to reach a Redis broker, and which names kombu uses in it.

    Attributes:
        connection: arguments of redis-py's connection, for the first server.
        failover: the servers of a list ``redis://a;redis://b``, in order; empty for a single server.
    """

    connection: Mapping[str, Any]
    db: int
    failover: "Failover | None" = None
    sentinels: tuple[tuple[str, int], ...] = ()
    service: str = ""
    sentinel_kwargs: Mapping[str, Any] = field(default_factory=dict)
    tls: bool = False
    global_prefix: str = ""
    fanout_prefix: str = ""
    separator: str = "\x06\x16"
    priority_steps: tuple[int, ...] = tuple(ALL_STEPS)
    unacked: str = "unacked"
    unacked_index: str = "unacked_index"


def redis_settings(broker: Broker) -> RedisSettings:
    """Read a Redis broker's URL and transport options.

    Raises:
        UsageError: a part of them is malformed.
    """
    try:
        return _redis_settings(broker)
    except (ValueError, TypeError) as error:
        raise UsageError(
            f"broker {broker.shown}: {error}", hint="for example redis://user:password@host:6379/0"
        ) from None


def _redis_settings(broker: Broker) -> RedisSettings:
    urls, options = broker.url.split(";"), broker.options
    servers = [_server(url, broker) for url in urls]
    db = int(servers[0]["db"])
    nodes = tuple(_node(url) for url in urls) if broker.scheme == "sentinel" else ()
    if nodes and not options.get("master_name"):
        raise ValueError("sentinel:// needs the transport option master_name")
    failover = Failover(tuple(servers)) if len(servers) > 1 and not nodes else None
    return RedisSettings(
        connection=servers[0],
        db=db,
        failover=failover,
        sentinels=nodes,
        service=str(options.get("master_name", "")),
        sentinel_kwargs=dict(options.get("sentinel_kwargs") or {}),
        tls=bool(_tls(broker)),
        global_prefix=str(options.get("global_keyprefix", "")),
        fanout_prefix=fanout_prefix(options.get("fanout_prefix", True), db),
        separator=str(options.get("sep", "\x06\x16")),
        priority_steps=tuple(
            sorted({*ALL_STEPS, *(int(step) for step in options.get("priority_steps", ()))})
        ),
        unacked=str(options.get("unacked_key", "unacked")),
        unacked_index=str(options.get("unacked_index_key", "unacked_index")),
    )


def _server(url: str, broker: Broker) -> dict[str, Any]:
    """redis-py's arguments for one URL of a list."""
    if broker.scheme == "sentinel" and "://" not in url:
        url = f"sentinel://{url}"
    parts = urlsplit(url)
    if broker.scheme != "sentinel" and ";" in broker.url and parts.scheme not in ("redis", "rediss"):
        raise ValueError("a list of servers must consist of redis:// or rediss:// URLs")
    db = _db(parts.path, dict(parse_qsl(parts.query)), is_socket=_is_socket(parts.scheme))
    address = _address(parts, parts.scheme) | _credentials(parts, broker.options)
    return {**address, **_tls(broker), "db": db}


def fanout_prefix(option: Any, db: int) -> str:
    """The prefix of the event channels, as kombu builds it."""
    if not option:
        return ""
    return (option if isinstance(option, str) else "/{db}.").replace("{db}", str(db))


def _is_socket(scheme: str) -> bool:
    return scheme in ("redis+socket", "socket", "unix")


def _address(parts: Any, scheme: str) -> dict[str, Any]:
    if _is_socket(scheme):
        if not parts.path:
            raise ValueError("the socket's path is missing")
        return {"path": unquote(parts.path)}
    return {"host": parts.hostname or "127.0.0.1", "port": parts.port or 6379}


def _credentials(parts: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    found = {
        "username": unquote(parts.username or "") or options.get("username"),
        "password": unquote(parts.password or "") or options.get("password"),
    }
    return {name: value for name, value in found.items() if value}


def _db(path: str, query: Mapping[str, str], *, is_socket: bool) -> int:
    text = (query.get("virtual_host") or query.get("db") or "0") if is_socket else path.strip("/")
    if text and not text.strip("/").isdigit():
        raise ValueError(f"{text!r} is not a valid database number")
    return int(text.strip("/") or 0)


def _tls(broker: Broker) -> dict[str, Any]:
    found = broker.tls_options()
    if broker.scheme != "rediss" and not found:
        return {}
    return {"ssl_cert_reqs": "required", **found}


def _node(url: str) -> tuple[str, int]:
    parts = urlsplit(url if "://" in url else f"sentinel://{url}")
    return parts.hostname or "127.0.0.1", parts.port or SENTINEL_PORT


def redis_pool(settings: RedisSettings, *, name: str) -> redis.ConnectionPool:
    """A pool of connections to the broker, or to the master that Sentinel names."""
    common = {
        **settings.connection,
        "client_name": name,
        "socket_timeout": ANSWER_SECONDS,
        "socket_connect_timeout": CONNECT_SECONDS,
        "protocol": 2,
    }
    if settings.sentinels:
        return _sentinel_pool(settings, common)
    if settings.failover:
        kind = _FailoverTls if settings.tls else _FailoverTcp
        return redis.ConnectionPool(connection_class=kind, failover=settings.failover, **common)
    if "path" in common:
        return redis.ConnectionPool(connection_class=redis.UnixDomainSocketConnection, **common)
    plain = redis.SSLConnection if settings.tls else redis.Connection
    return redis.ConnectionPool(connection_class=plain, **common)


class Failover:
    """Several Redis servers, one of which is used, as in Celery's ``redis://a;redis://b``.

    Args:
        servers: redis-py's connection arguments for each, in order.
    """

    def __init__(self, servers: tuple[Mapping[str, Any], ...]) -> None:
        self.servers = servers
        # The server that all connections of this process use; the next one takes over if it cannot be reached.
        self.current = 0

    def order(self) -> list[int]:
        """The servers to try, the current one first."""
        return [(self.current + step) % len(self.servers) for step in range(len(self.servers))]


class _FailoverMixin:
    """Connects to the first server of a list that can be reached."""

    def __init__(self, *, failover: Failover, **options: Any) -> None:
        super().__init__(**options)
        self._failover = failover

    def _connect(self) -> Any:
        errors = []
        for number in self._failover.order():
            for name, value in self._failover.servers[number].items():
                if not name.startswith("ssl_"):
                    setattr(self, name, value)
            try:
                # Any: redis-py's connection, into which this is mixed.
                base: Any = super()
                sock = base._connect()
            except OSError as error:
                errors.append(f"{self._failover.servers[number].get('host')}: {error}")
                continue
            self._failover.current = number
            return sock
        raise OSError("no server of the list can be reached: " + "; ".join(errors))


class _FailoverTcp(_FailoverMixin, redis.Connection):
    pass


class _FailoverTls(_FailoverMixin, redis.SSLConnection):
    pass


def _sentinel_pool(settings: RedisSettings, common: dict[str, Any]) -> redis.ConnectionPool:
    for address in ("host", "port"):
        common.pop(address)
    sentinel_kwargs = {
        "socket_timeout": CONNECT_SECONDS,
        "socket_connect_timeout": CONNECT_SECONDS,
        **settings.sentinel_kwargs,
    }
    # Any: redis-py gives Sentinel no types.
    make: Any = Sentinel
    sentinel = make(list(settings.sentinels), sentinel_kwargs=sentinel_kwargs)
    client = sentinel.master_for(settings.service, ssl=settings.tls, **common)
    pool: redis.ConnectionPool = client.connection_pool
    return pool
