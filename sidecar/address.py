"""Addresses of servers: validation, masking for display, and whether the host is near."""

import ipaddress
from urllib.parse import urlsplit

from sidecar.errors import UsageError


def checked(url: str, server: str, hint: str) -> str:
    """Return `url` without a trailing slash.

    Args:
        server: the server's name, for the message.
        hint: how to write it correctly.

    Raises:
        UsageError: it is not an `http://` or `https://` address with a host.
    """
    if not url.startswith(("http://", "https://")) or not _host(url):
        raise UsageError(f"{shown(url)!r} is not an address of {server}", hint=hint)
    return url.rstrip("/")


def shown(url: str) -> str:
    """Return `url` for messages and pictures, without its user and password."""
    scheme, slashes, rest = url.rpartition("://")
    return scheme + slashes + rest.rpartition("@")[2]


def is_near(url: str) -> bool:
    """Whether the host of a URL is this machine or in its network: a private address, or a name without a dot."""
    host = _host(url).rstrip(".")
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return "." not in host


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
