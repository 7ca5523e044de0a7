"""Connections to Redis by address: to one server, or to the master that Sentinel reports.

    redis://:password@host:6379/0
    sentinel://:password@one:26379/0;sentinel://:password@two:26379/0      with REDIS_SENTINEL_MASTER

Sentinels and servers share one password. Redis Cluster is not supported, because kombu has no transport for it.
"""

from typing import Any
from urllib.parse import unquote, urlsplit

import redis
from redis.sentinel import Sentinel

SCHEME = "sentinel://"
SCHEMES = ("redis://", "rediss://", "unix://", SCHEME)
PORT = 26379


def is_sentinel(url: str) -> bool:
    return url.startswith(SCHEME)


def nodes(url: str) -> list[tuple[str, int]]:
    """The Sentinels in an address."""
    parts = (urlsplit(part) for part in url.split(";") if part)
    return [(part.hostname or "127.0.0.1", part.port or PORT) for part in parts]


def password(url: str) -> str | None:
    found = urlsplit(url.split(";", maxsplit=1)[0]).password
    return unquote(found) if found else None


def transport_options(url: str, master: str) -> dict[str, Any]:
    """The settings that kombu needs in addition to the address."""
    if not is_sentinel(url):
        return {}
    return {"master_name": master, "sentinel_kwargs": {"password": password(url)}}


def cache(url: str, master: str) -> dict[str, Any]:
    """Django's cache settings: the location, and the options of django-redis."""
    if not is_sentinel(url):
        return {"LOCATION": url, "OPTIONS": {}}
    secret = urlsplit(url.split(";", maxsplit=1)[0]).password
    credentials = f":{secret}@" if secret else ""
    return {
        "LOCATION": f"redis://{credentials}{master}/{_database(url)}",
        "OPTIONS": {
            "CONNECTION_FACTORY": "django_redis.pool.SentinelConnectionFactory",
            "SENTINELS": nodes(url),
            "SENTINEL_KWARGS": {"password": password(url), "socket_timeout": 2},
        },
    }


def client(url: str, master: str, seconds: float) -> redis.Redis:
    """A client for a few commands, with time limits in seconds."""
    limits = {"socket_connect_timeout": seconds, "socket_timeout": seconds}
    if not is_sentinel(url):
        return redis.Redis.from_url(url, **limits)
    sentinel = Sentinel(nodes(url), sentinel_kwargs={"password": password(url), **limits})
    found: redis.Redis = sentinel.master_for(master, password=password(url), db=_database(url), **limits)
    return found


def _database(url: str) -> int:
    path = urlsplit(url.split(";", maxsplit=1)[0]).path.strip("/")
    return int(path) if path.isdigit() else 0
