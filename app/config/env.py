"""Settings from the environment. Each variable NAME may also be given as NAME_FILE, the path of a file with the value."""

import logging
import math
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import environ
from django.core.exceptions import ImproperlyConfigured

T = TypeVar("T", int, float)

SHORTEST_KEY = 32
MIN_VARIETY = 5
TRUE = {"1", "true", "yes", "on"}
FALSE = {"0", "false", "no", "off", ""}
RATE = re.compile(r"^\d+/(s|sec|second|m|min|minute|h|hour|d|day)$")
ORIGIN = re.compile(r"^[a-z][a-z\d+.-]*://[^/?#@\s]+$", re.IGNORECASE)
DATABASE = "postgres://posthub:PASSWORD@HOST:5432/posthub"
REDIS = "redis://:PASSWORD@HOST:6379/0"
# An unescaped / in the password ends the host: `u:12/34@host/name` would be read as host u, port 12, name 34@host/name.
MISREAD = re.compile(r"^[^/]+://[^/]+/[^?]*@")


class ConfigError(ImproperlyConfigured):
    """A mistake in the environment, with a hint for correcting it."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(f"Error: {message}\nTry: {hint}")


def text(name: str, default: str = "") -> str:
    path = os.environ.get(f"{name}_FILE", "")
    value = os.environ.get(name, "")
    if path and value:
        raise ConfigError(f"{name} and {name}_FILE are both set", f"keep one of {name} and {name}_FILE")
    if path:
        return _read(f"{name}_FILE", path)
    return value.strip() or default


def _read(name: str, path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not text"
        raise ConfigError(
            f"{name} names {path}, which cannot be read: {reason}", "mount the secret there"
        ) from None


def flag(name: str, *, default: bool = False) -> bool:
    value = text(name, str(default)).lower()
    if value in TRUE | FALSE:
        return value in TRUE
    raise ConfigError(f"{name} is {value!r}, which is not a valid boolean", f"{name}=true or {name}=false")


def names(name: str, default: Sequence[str] = ()) -> list[str]:
    value = text(name)
    return [part.strip() for part in value.split(",") if part.strip()] if value else list(default)


def keys(name: str) -> list[str]:
    """Keys for encryption, separated by commas. No error shows them."""
    found = names(name)
    for key in found:
        if len(key) < SHORTEST_KEY or len(set(key)) < MIN_VARIETY:
            raise ConfigError(
                f"{name} contains a key that is too weak (needs {SHORTEST_KEY} characters, not all the same)",
                "python -c 'import secrets; print(secrets.token_urlsafe(50))' prints a new key",
            )
    return found


def prefixed(name: str, *prefixes: str) -> str:
    """A key with one of its issuer's prefixes, or nothing. No error shows it."""
    value = text(name)
    if value:
        _require_prefix(name, value, prefixes)
    return value


def all_prefixed(name: str, prefix: str) -> list[str]:
    """Such keys, separated by commas."""
    found = names(name)
    for value in found:
        _require_prefix(name, value, (prefix,))
    return found


def _require_prefix(name: str, value: str, prefixes: tuple[str, ...]) -> None:
    if not value.startswith(prefixes) or not value.isascii() or any(map(str.isspace, value)):
        raise ConfigError(
            f"{name} has a value that does not begin with {' or '.join(prefixes)}",
            f"{name}={prefixes[0]}…, copied from Stripe's dashboard",
        )


def whole(name: str, default: int, *, minimum: int = 0) -> int:
    return _number(name, default, int, minimum)


def seconds(name: str, default: float, *, minimum: float = 0.0, maximum: float = math.inf) -> float:
    value = _number(name, default, float, minimum)
    if not value <= maximum:
        raise ConfigError(f"{name} is {value:g}, above its maximum {maximum:g}", f"{name}={default}")
    return value


def _number(name: str, default: T, kind: Callable[[str], T], minimum: T) -> T:
    value = text(name, str(default))
    try:
        number = kind(value)
    except ValueError:
        wanted = "whole number" if kind is int else "number"
        raise ConfigError(f"{name} is {value!r}, which is not a {wanted}", f"{name}={default}") from None
    if not number >= minimum:  # NaN is neither below nor above a limit
        raise ConfigError(f"{name} is {value}, below its minimum {minimum}", f"{name}={default}")
    return number


def rate(name: str, default: str) -> str | None:
    """A rate such as 600/min, or None for `off`."""
    value = text(name, default)
    if value == "off":
        return None
    if not RATE.match(value):
        raise ConfigError(
            f"{name} is {value!r}, which is not a valid rate", f"{name}={default}, or {name}=off"
        )
    return value


def level(name: str, default: str) -> str:
    value = text(name, default)
    if value.upper() not in logging.getLevelNamesMapping():
        raise ConfigError(
            f"{name} is {value!r}, which is not a valid log level",
            f"{name}={default}, or DEBUG, WARNING, ERROR",
        )
    return value.upper()


def origins(name: str) -> list[str]:
    """Origins as a browser sends them: a scheme and a host, with nothing after it."""
    found = names(name)
    for origin in found:
        if not ORIGIN.match(origin):
            raise ConfigError(
                f"{name} has {origin!r}, which is not a valid origin", f"{name}=https://posthub.work"
            )
    return found


def origin(name: str, default: str) -> str:
    return (origins(name) or [default])[0]


def dsn(name: str) -> str:
    value = text(name)
    if not value:
        return ""
    from sentry_sdk.utils import Dsn  # a slow import, needed only with a DSN

    try:
        Dsn(value)
    except ValueError:
        raise ConfigError(
            f"{name} is not a valid DSN",
            f"{name}=https://KEY@HOST/PROJECT, or leave it empty to send no reports",
        ) from None
    return value


def address(name: str, default: str, schemes: tuple[str, ...]) -> str:
    """A server's address, or several separated by semicolons. Errors never show it, because it may contain a password."""
    value = text(name, default)
    if not value.startswith(schemes):
        raise ConfigError(f"{name} must begin with one of {', '.join(schemes)}", f"{name}={REDIS}")
    if not all(part.startswith(schemes) and _well_formed(part) for part in value.rstrip(";").split(";")):
        raise _invalid(name, REDIS)
    return value


def media_store(name: str) -> str:
    """The address of a media store: s3://BUCKET/PREFIX, file:///FOLDER, or empty for none."""
    value = text(name)
    parts = urlsplit(value)
    is_bucket = parts.scheme == "s3" and bool(parts.netloc) and "@" not in parts.netloc
    is_folder = parts.scheme == "file" and not parts.netloc and len(parts.path) > 1
    if value and not is_bucket and not is_folder:
        raise ConfigError(
            f"{name} is not the address of a bucket or folder",
            f"{name}=s3://posthub-media/production or file:///srv/media",
        )
    return value


def _well_formed(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.port != 0 and not parts.fragment and not MISREAD.match(url)
    except ValueError:
        return False


def database(name: str, default: str = "") -> dict[str, Any]:
    """Django's settings for a PostgreSQL database from its URL, with the backend that counts queries."""
    url = text(name, default)
    if not url.startswith(("postgres://", "postgresql://")):
        given = "not set" if not url else "not a postgres:// address"
        raise ConfigError(f"{name} is {given}", f"{name}={DATABASE}")
    try:
        config: dict[str, Any] = dict(environ.Env.db_url_config(url))
    except ValueError:  # the message quotes the supposed port, which may be part of the password
        raise _invalid(name, DATABASE) from None
    if MISREAD.match(url):
        raise _invalid(name, DATABASE)
    config["ENGINE"] = "django_prometheus.db.backends.postgresql"
    return config


def _invalid(name: str, example: str) -> ConfigError:
    return ConfigError(
        f"{name} is not a valid address",
        f"{name}={example}, its password percent-encoded: / is %2F, # is %23, ; is %3B, @ is %40",
    )
