"""Finds what the settings expose unnecessarily. Each finding is one line for a person."""

import ipaddress
from collections.abc import Iterator
from urllib.parse import urlsplit

from pydantic import SecretStr

from backup.postgres.dsn import Address, parse
from backup.settings import BackupSettings
from backup.targets import RedisTarget
from backup.wiring import Wiring
from sidecar.logs import SHORTEST_SECRET

# libpq's modes in which a connection may turn out to be unencrypted.
_WITHOUT_TLS = frozenset({"disable", "allow", "prefer"})
# Apprise's schemes that have a variant with TLS.
_OPEN_NOTIFICATIONS = frozenset(
    {"json", "xml", "form", "mailto", "apprise", "ntfy", "matrix", "mmost", "rocket"}
)


def unencrypted(wiring: Wiring) -> Iterator[str]:
    """Connections to other hosts that may not be encrypted."""
    for target in (*wiring.targets, *wiring.servers):
        if isinstance(target, RedisTarget):
            yield from _redis(target)
        else:
            yield from _database(target.name, target.address)
    yield from _of_settings(wiring.settings)


def _of_settings(settings: BackupSettings) -> Iterator[str]:
    servers = {
        "BACKUP_DISCOVER_URL": settings.discover_url,
        "BACKUP_RESTORE_URL": settings.restore_url,
        "BACKUP_VERIFY_URL": settings.verify_url,
    }
    for variable, given in servers.items():
        if given is not None:
            yield from _database(variable, parse(given.get_secret_value(), variable))
    endpoints = {
        "BACKUP_S3_ENDPOINT_URL": settings.s3_endpoint_url,
        "BACKUP_OFFSITE_S3_ENDPOINT_URL": settings.offsite_s3_endpoint_url,
        "BACKUP_PING_URL": settings.ping_url,
        "BACKUP_PING_START_URL": settings.ping_start_url,
        "BACKUP_PING_FAILURE_URL": settings.ping_failure_url,
    }
    for variable, url in endpoints.items():
        parts = urlsplit(url.get_secret_value() if isinstance(url, SecretStr) else url or "")
        if parts.scheme == "http" and not _here(parts.hostname or ""):
            yield f"{variable} begins with http://; https:// is safe"
    for number, address in enumerate(settings.notify_addresses, 1):
        scheme, _, rest = address.partition("://")
        if scheme in _OPEN_NOTIFICATIONS and not _here(_host(rest)):
            yield f"BACKUP_NOTIFY_URLS: address {number} begins with {scheme}://; {scheme}s:// is safe"


def _redis(target: RedisTarget) -> Iterator[str]:
    parts = urlsplit(target.address.url)
    if parts.scheme == "redis" and not _here(parts.hostname or ""):
        yield f"{target.name} is reached with redis://; rediss:// is safe"


def _host(rest: str) -> str:
    """The host of an address without its scheme; it may be any text."""
    try:
        return urlsplit(f"//{rest}").hostname or ""
    except ValueError:
        return ""


def _database(name: str, address: Address) -> Iterator[str]:
    public = address.public
    mode, hosts = public.get("sslmode", "prefer"), public.get("hostaddr") or public.get("host", "")
    if mode in _WITHOUT_TLS and not all(map(_here, hosts.split(","))):
        yield f"{name} is reached with sslmode={mode}; sslmode=verify-full is safe"


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
