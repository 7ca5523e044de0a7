"""Addresses of servers: which is one, and what of it may be shown."""

from urllib.parse import urlsplit

from sidecar.errors import UsageError


def checked(url: str, server: str, hint: str) -> str:
    """Return `url` without a slash at its end; it must be one that a browser would open."""
    if not url.startswith(("http://", "https://")) or not _host(url):
        raise UsageError(f"{shown(url)!r} is not an address of {server}", hint=hint)
    return url.rstrip("/")


def shown(url: str) -> str:
    """Return `url` for messages and pictures: without the user and the password that it may hold."""
    scheme, slashes, rest = url.rpartition("://")
    return scheme + slashes + rest.rpartition("@")[2]


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
