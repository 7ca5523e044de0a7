"""Finds what the settings expose unnecessarily. Each finding is one line for a person."""

import ipaddress
from collections.abc import Iterator
from urllib.parse import urlsplit

from backup.targets import RedisTarget
from backup.wiring import Wiring
from sidecar.logs import SHORTEST_SECRET

# libpq's modes in which a connection may turn out to be unencrypted.
_WITHOUT_TLS = frozenset({"disable", "allow", "prefer"})


def unencrypted(wiring: Wiring) -> Iterator[str]:
    """Connections to other hosts that may not be encrypted."""
    for target in (*wiring.targets, *wiring.servers):
        if isinstance(target, RedisTarget):
            parts = urlsplit(target.address.url)
            if parts.scheme == "redis" and not _here(parts.hostname or ""):
                yield f"{target.name} is reached with redis://; rediss:// is safe"
            continue
        public = target.address.public
        mode, hosts = public.get("sslmode", "prefer"), public.get("hostaddr") or public.get("host", "")
        if mode in _WITHOUT_TLS and not all(map(_here, hosts.split(","))):
            yield f"{target.name} is reached with sslmode={mode}; sslmode=verify-full is safe"
    settings = wiring.settings
    for variable, url in (
        ("BACKUP_S3_ENDPOINT_URL", settings.s3_endpoint_url),
        ("BACKUP_OFFSITE_S3_ENDPOINT_URL", settings.offsite_s3_endpoint_url),
    ):
        parts = urlsplit(url or "")
        if parts.scheme == "http" and not _here(parts.hostname or ""):
            yield f"{variable} begins with http://; https:// is safe"


def short_secrets(wiring: Wiring) -> int:
    """The number of secrets that are too short to be masked in logs and messages."""
    secrets = {*wiring.settings.secrets(), *wiring.secrets}
    return sum(len(secret) < SHORTEST_SECRET for secret in secrets)


def _here(host: str) -> bool:
    """Whether a host is this machine: a socket, or a loopback address."""
    if not host or host.startswith(("/", "@")) or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
