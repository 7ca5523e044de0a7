"""Connection parameters of a Redis server, with the password separate."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit, urlunsplit

from backup.cancellation import answered
from backup.errors import PreflightError
from sidecar import UsageError

if TYPE_CHECKING:
    import redis

HINT = "use redis://:password@host:6379 (rediss:// for TLS, unix:///socket)"
SECONDS = 60.0


@dataclass(frozen=True)
class RedisAddress:
    """A Redis URL that is never shown with its password."""

    url: str = field(repr=False)

    @property
    def password(self) -> str:
        return unquote(urlsplit(self.url).password or "")

    def __str__(self) -> str:
        parts = urlsplit(self.url)
        return f"{parts.hostname or parts.path}:{parts.port or 6379}" if parts.hostname else parts.path

    def at(self, host: str, port: int) -> "RedisAddress | None":
        """Another server with the same login; None for a socket, which has no others."""
        parts = urlsplit(self.url)
        if parts.scheme == "unix":
            return None
        login, at, _ = parts.netloc.rpartition("@")
        there = f"[{host}]" if ":" in host else host
        return RedisAddress(urlunsplit(parts._replace(netloc=f"{login}{at}{there}:{port}")))

    def client(self) -> "redis.Redis":
        """A client that has logged in.

        Raises:
            PreflightError: the login failed.
        """
        import redis  # takes half a second to import, and most runs have no Redis
        from redis.exceptions import AuthenticationError, RedisError

        client = redis.Redis.from_url(self.url, socket_timeout=SECONDS, socket_connect_timeout=10.0)
        try:
            answered(client.ping)
        except AuthenticationError:
            raise PreflightError(
                f"Redis {self} rejects the password", hint="check the user and the password"
            ) from None
        except RedisError as error:
            raise PreflightError(
                f"cannot connect to Redis {self}: {error}",
                hint="check that the server is up, and check host and port",
            ) from None
        return client


def parse(url: str, variable: str = "BACKUP_REDIS_URLS") -> RedisAddress:
    """Check a Redis URL.

    Raises:
        UsageError: it is not valid.
    """
    if urlsplit(url).scheme not in {"redis", "rediss", "unix"}:
        raise UsageError(f"{variable} has the scheme {urlsplit(url).scheme!r}, not redis", hint=HINT)
    import redis  # see above

    try:
        redis.ConnectionPool.from_url(url)
    except ValueError:
        raise UsageError(f"{variable} is not a valid Redis URL", hint=HINT) from None
    return RedisAddress(url)
