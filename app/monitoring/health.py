"""Checks whether this instance can serve requests. The reasons in the response contain nothing confidential."""

import logging
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from threading import Timer
from typing import Any

import redis
from django.conf import settings
from django.db import Error, connection

from config import redis_url
from monitoring.migrations import unapplied

log = logging.getLogger(__name__)

WAIT = 2.0


class UnhealthyError(Exception):
    """A check failed. The message is public."""


def _database() -> None:
    try:
        with _cut_off_after(WAIT), connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except Error as error:
        log.warning("health: database", exc_info=error)
        raise UnhealthyError(f"database does not answer ({type(error).__name__})") from error


@contextmanager
def _cut_off_after(seconds: float) -> Iterator[None]:
    """Close the connection after this time: a server that hangs sends nothing, not even an error."""
    timer = Timer(seconds, _cut_off, [connection.connection])
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _cut_off(stuck: Any) -> None:
    if stuck is None or stuck.closed:  # a new connection has its own time limit
        return
    with suppress(OSError), socket.socket(fileno=os.dup(stuck.fileno())) as line:
        line.shutdown(socket.SHUT_RDWR)


@cache
def _client(url: str) -> redis.Redis:
    return redis_url.client(url, settings.REDIS_SENTINEL_MASTER, WAIT)


def _redis() -> None:
    for url in {settings.REDIS_URL, settings.CELERY_BROKER_URL}:
        if not url.startswith(redis_url.SCHEMES):
            continue
        try:
            _client(url).ping()
        except redis.RedisError as error:
            log.warning("health: redis", exc_info=error)
            raise UnhealthyError(f"Redis does not answer ({type(error).__name__})") from error


def _migrations() -> None:
    try:
        missing = unapplied()
    except Error as error:
        raise UnhealthyError("database does not answer") from error
    if missing:
        log.warning("health: migrations not applied", extra={"migrations": missing})
        raise UnhealthyError(f"{len(missing)} migrations not applied")


OK = {"ok": True}
# A check is skipped if the one that it needs has failed.
NEEDS = {"migrations": "database"}
CHECKS: dict[str, Callable[[], None]] = {"database": _database, "redis": _redis, "migrations": _migrations}


def report() -> dict[str, Any]:
    checks: dict[str, dict[str, Any]] = {}
    for name, check in CHECKS.items():
        needed = checks.get(NEEDS.get(name, ""), OK)
        checks[name] = _result(check) if needed["ok"] else needed
    reasons = list(dict.fromkeys(check["reason"] for check in checks.values() if "reason" in check))
    result: dict[str, Any] = {"status": "unwell" if reasons else "ok", "checks": checks}
    return result | ({"reason": "; ".join(reasons)} if reasons else {})


def _result(check: Callable[[], None]) -> dict[str, Any]:
    start = time.perf_counter()
    try:
        check()
    except UnhealthyError as reason:
        return {"ok": False, "reason": str(reason)}
    return {"ok": True, "milliseconds": round((time.perf_counter() - start) * 1000, 1)}
