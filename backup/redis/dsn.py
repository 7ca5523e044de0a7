"""Where a Redis server is, with the password kept apart."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from backup.errors import PreflightError
from sidecar import UsageError

if TYPE_CHECKING:
    import redis

HINT = "give redis://:password@host:6379 (rediss:// for TLS, unix:///socket)"
SECONDS = 60.0


@dataclass(frozen=True)
class RedisAddress:
    """A URL that is shown only without its password."""

    url: str = field(repr=False)

    @property
    def password(self) -> str:
        return unquote(urlsplit(self.url).password or "")

    def __str__(self) -> str:
        parts = urlsplit(self.url)
        return f"{parts.hostname or parts.path}:{parts.port or 6379}" if parts.hostname else parts.path

    def client(self) -> "redis.Redis":
        """A client that has proven that it can log in.

        Raises:
            PreflightError: it cannot.
        """
        import redis  # half a second, and most runs have no Redis
        from redis.exceptions import AuthenticationError, RedisError

        client = redis.Redis.from_url(self.url, socket_timeout=SECONDS, socket_connect_timeout=10.0)
        try:
            client.ping()
        except AuthenticationError:
            raise PreflightError(
                f"Redis {self} refuses the password", hint="check user and password"
            ) from None
        except RedisError as error:
            raise PreflightError(
                f"cannot connect to Redis {self}: {error}",
                hint="is the server up, and are host and port right?",
            ) from None
        return client


def parse(url: str, variable: str = "BACKUP_REDIS_URLS") -> RedisAddress:
    """Check a Redis URL.

    Raises:
        UsageError: it is none.
    """
    if urlsplit(url).scheme not in {"redis", "rediss", "unix"}:
        raise UsageError(f"{variable} has the scheme {urlsplit(url).scheme!r}, not redis", hint=HINT)
    import redis  # see above

    try:
        redis.ConnectionPool.from_url(url)
    except ValueError:
        raise UsageError(f"{variable} is no URL that Redis understands", hint=HINT) from None
    return RedisAddress(url)
