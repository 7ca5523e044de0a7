"""Limits on attempts to sign in: per client address and per account, for every way of signing in.

The counters are in Redis, because all processes share them. Without Redis no one can sign in: an attacker who can stop
Redis, or fill it, must not get unlimited attempts. Existing sessions and tokens keep working.
"""

import hashlib
import ipaddress
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

from django.conf import settings
from django.core.cache import caches
from django.http import HttpRequest
from django_redis.exceptions import ConnectionInterrupted
from redis.exceptions import RedisError
from rest_framework.exceptions import Throttled
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from config.errors import Unavailable
from monitoring.metrics import SIGN_INS

CACHE = "sign_in"
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
IPV6_PREFIX = 64


@dataclass(frozen=True)
class Limit:
    """A number of attempts in each window of time."""

    attempts: int
    seconds: int

    @classmethod
    def parse(cls, rate: str) -> "Limit":
        """From a rate such as 10/min."""
        attempts, _, period = rate.partition("/")
        return cls(int(attempts), SECONDS[period[0]])

    def key(self, subject: str, now: float) -> str:
        """The name of the counter. User names may be long or secret (a password in the wrong field), so it is a digest."""
        digest = hashlib.sha256(subject.encode()).hexdigest()
        return f"{digest}:{int(now // self.seconds)}"

    def wait(self, now: float) -> int:
        """Seconds until the next window."""
        return self.seconds - int(now % self.seconds)


def begin(request: HttpRequest | None, username: str) -> None:
    """Count an attempt before its password is checked.

    Raises:
        Throttled: the address or the account has no attempts left in this window.
        Unavailable: the attempts cannot be counted.
    """
    _count("address", settings.SIGN_IN_PER_ADDRESS, client_address(request))
    _count("account", settings.SIGN_IN_PER_ACCOUNT, _account(username))


def succeeded(username: str) -> None:
    """Forget the failed attempts on an account."""
    if settings.SIGN_IN_PER_ACCOUNT is not None:
        limit = Limit.parse(settings.SIGN_IN_PER_ACCOUNT)
        with _redis_required():
            caches[CACHE].delete(limit.key("account:" + _account(username), time.time()))


def _account(username: str) -> str:
    return username.strip().casefold()


def _count(kind: str, rate: str | None, subject: str) -> None:
    if rate is None or not subject:
        return
    limit, now = Limit.parse(rate), time.time()
    if _increment(limit.key(f"{kind}:{subject}", now), limit.seconds) > limit.attempts:
        SIGN_INS.labels(f"throttled_{kind}").inc()
        raise Throttled(wait=limit.wait(now))


def _increment(key: str, seconds: int) -> int:
    with _redis_required():
        cache = caches[CACHE]
        cache.add(key, 0, timeout=seconds)
        try:
            return cache.incr(key)
        except ValueError:  # it expired in between, so a new window has begun
            cache.set(key, 1, timeout=seconds)
            return 1


@contextmanager
def _redis_required() -> Iterator[None]:
    try:
        yield
    except (ConnectionInterrupted, RedisError, OSError) as error:
        SIGN_INS.labels("unavailable").inc()
        raise Unavailable(
            "Signing in is temporarily unavailable. Try again in a minute.", code="sign_in_unavailable"
        ) from error


def client_address(request: HttpRequest | None) -> str:
    """The address of the client behind the proxies; its /64 network for IPv6. Empty for a local call."""
    found = BaseThrottle().get_ident(cast("Request", request)) if request is not None else None
    try:
        address = ipaddress.ip_address(found or "")
    except ValueError:
        return found or ""
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is None:
        return str(ipaddress.ip_network((address, IPV6_PREFIX), strict=False))
    return str(getattr(address, "ipv4_mapped", None) or address)
