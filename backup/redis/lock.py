"""One run per Redis server at a time: a key that expires when its holder no longer renews it."""

import logging
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from redis import Redis
from redis.exceptions import NoPermissionError, RedisError

from backup.cancellation import answered
from backup.errors import BusyError, DumpError
from backup.redis.dsn import RedisAddress
from sidecar import OpsError

log = logging.getLogger(__name__)

KEY = "posthub-ops:backup:lock"
LIFE_SECONDS = 60
RIGHTS = f"+set +get +del +expire ~{KEY}"
# If the server does not answer, the lock expires.
RELEASE_SECONDS = 2.0


class KeyLock:
    """The acquired lock, renewed by a thread."""

    def __init__(self, client: "Redis", token: str) -> None:
        self._client = client
        self._token = token
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="redis lock", daemon=True)
        self._thread.start()

    def confirm(self) -> None:
        try:
            is_ours = answered(lambda: self._client.get(KEY)) == self._token.encode()
        except RedisError:
            is_ours = False
        if not is_ours:
            raise DumpError("the backup lock in Redis was lost during the run", hint="run again")

    def release(self) -> None:
        self._done.set()
        self._thread.join(RELEASE_SECONDS)
        try:
            if answered(lambda: self._client.get(KEY)) == self._token.encode():
                _remove(self._client)
        except (RedisError, OpsError):
            log.info("the lock in Redis remains until it expires seconds=%d", LIFE_SECONDS)

    def _renew(self) -> None:
        while not self._done.wait(LIFE_SECONDS / 4):
            try:
                self._client.expire(KEY, LIFE_SECONDS)
            except RedisError as error:
                log.warning("the lock in Redis could not be renewed: %s", error)


class NoLock:
    """No lock, for a server that rejects writes: a replica, or a read-only user."""

    def confirm(self) -> None:
        """There is no lock to lose."""


def _lacking(client: "Redis") -> str:
    """The server's refusal if our user may not read or renew the lock, which would seem lost at the end; empty if it may."""
    try:
        answered(lambda: client.get(KEY))
        answered(lambda: client.expire(KEY, LIFE_SECONDS))
    except NoPermissionError as error:
        return str(error)
    return ""


def _remove(client: "Redis") -> None:
    """Remove the lock; a user that may not delete it lets it expire at once."""
    try:
        answered(lambda: client.delete(KEY))
    except NoPermissionError:
        answered(lambda: client.set(KEY, "", px=1))


@contextmanager
def key_lock(address: RedisAddress) -> Iterator[KeyLock | NoLock]:
    """Take the lock of one server for the block.

    Raises:
        BusyError: another run has it.
    """
    client = address.client()
    token = secrets.token_hex(8)
    try:
        taken = answered(lambda: client.set(KEY, token, nx=True, ex=LIFE_SECONDS))
    except RedisError as error:
        log.info("Redis %s rejects the lock, so the run has none: %s", address, error)
        yield NoLock()
        return
    if not taken:
        raise BusyError(
            f"another backup of Redis {address} is in progress",
            hint=f"wait; the lock of a dead run expires within {LIFE_SECONDS} seconds",
        )
    if lacks := _lacking(client):
        _remove(client)
        log.warning("Redis %s: %s, so the run has no lock; its user needs %s", address, lacks, RIGHTS)
        yield NoLock()
        client.close()
        return
    lock = KeyLock(client, token)
    try:
        yield lock
    finally:
        lock.release()
        client.close()
