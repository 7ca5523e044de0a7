"""The databases and servers that are backed up, with their names."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from backup.catalogue import layout
from backup.postgres.dsn import Address, parse
from backup.redis import dsn as redis_address
from backup.redis.dsn import RedisAddress
from backup.settings import BackupSettings
from sidecar import UsageError

# A comma begins the next database only if a name and an equals sign follow: passwords may contain commas.
_NEXT = re.compile(r",\s*(?=[A-Za-z0-9][A-Za-z0-9._-]*=)|\s+(?=[A-Za-z0-9][A-Za-z0-9._-]*=)")

# The URL of a single database names it; another name requires the other variable.
_NAMED_BY = {"DATABASE_URL": "BACKUP_DATABASE_URLS"}


@dataclass(frozen=True)
class PostgresTarget:
    """A PostgreSQL database. Its name is its folder in the store and its label in metrics."""

    name: str
    address: Address
    kind: Literal["postgres"] = "postgres"

    @property
    def secrets(self) -> list[str]:
        """The password. One that equals a public name is not secret, and masking it would mask the name."""
        password = self.address.password
        return [password] if password and password not in {*self.address.public.values(), self.name} else []


@dataclass(frozen=True)
class RedisTarget:
    """A Redis server. Its name is its folder in the store and its label in metrics."""

    name: str
    address: RedisAddress
    kind: Literal["redis"] = "redis"

    @property
    def secrets(self) -> list[str]:
        password = self.address.password
        return [password] if password else []


@dataclass(frozen=True)
class ServerTarget:
    """A whole PostgreSQL server: its WAL and its base backups. Its name is its folder in the store and its label in metrics.

    Attributes:
        address: of the database ``postgres``, with a role that may replicate. A session in production's own database
            would keep a promotion from renaming that.
    """

    name: str
    address: Address
    kind: Literal["server"] = "server"

    @property
    def secrets(self) -> list[str]:
        password = self.address.password
        return [password] if password else []


Database = PostgresTarget | RedisTarget
Target = Database | ServerTarget


def targets(settings: BackupSettings) -> list[Database]:
    """All configured databases.

    Raises:
        UsageError: a URL is invalid, or two databases have the same name.
    """
    found: list[Database] = [*_postgres(settings), *_redis(settings)]
    names = [target.name for target in found]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"two databases are named {name}", hint="give each its own name: name=url")
    return found


def servers(settings: BackupSettings) -> list[ServerTarget]:
    """The servers whose WAL is streamed.

    Raises:
        UsageError: a URL is invalid, a name belongs to a database or another server, or nothing would be encrypted.
    """
    if settings.servers is None:
        return []
    named = named_urls(settings.servers.get_secret_value(), "BACKUP_SERVERS")
    names = [*(target.name for target in targets(settings)), *(name for name, _ in named)]
    for name, _ in named:
        if names.count(name) > 1:
            raise UsageError(
                f"BACKUP_SERVERS: {name} is the name of a database or of another server",
                hint="give each server its own name, such as main",
            )
    found = [ServerTarget(name, parse(url, "BACKUP_SERVERS").named("postgres")) for name, url in named]
    if not settings.age_recipients:
        raise UsageError(
            "BACKUP_SERVERS is set, but BACKUP_AGE_RECIPIENTS is not: the WAL contains every row and every password hash",
            hint="set BACKUP_AGE_RECIPIENTS; see docs/backup.md",
        )
    return found


def _postgres(settings: BackupSettings) -> Iterable[PostgresTarget]:
    if settings.database_urls:
        for name, url in named_urls(settings.database_urls.get_secret_value(), "BACKUP_DATABASE_URLS"):
            yield PostgresTarget(name, parse(url, "BACKUP_DATABASE_URLS"))
    elif settings.database_url:
        address = parse(settings.database_url.get_secret_value())
        yield PostgresTarget(folder_name(address.database, "DATABASE_URL"), address)


def _redis(settings: BackupSettings) -> Iterable[RedisTarget]:
    if settings.redis_urls:
        for name, url in named_urls(settings.redis_urls.get_secret_value(), "BACKUP_REDIS_URLS"):
            yield RedisTarget(name, redis_address.parse(url))


def named_urls(text: str, variable: str) -> list[tuple[str, str]]:
    """Split ``name=url,name=url`` into pairs."""
    pairs = []
    for item in filter(None, (part.strip() for part in _NEXT.split(text))):
        name, equals, url = item.partition("=")
        if not equals or not urlsplit(url).scheme:
            raise UsageError(
                f"{variable} contains an entry that is not name=url",
                hint="for example posthub=postgresql://…",
            )
        pairs.append((folder_name(name.strip(), variable), url.strip()))
    return pairs


def folder_name(name: str, variable: str) -> str:
    """A name, checked to be usable as a folder in the store.

    Raises:
        UsageError: it is not usable.
    """
    if not layout.NAME.fullmatch(name) or name == layout.ATTEMPTS:
        raise UsageError(
            f"{variable}: {name!r} is not a valid folder name",
            hint=f"choose another with {_NAMED_BY.get(variable, variable)}=name=url: letters, digits, dot, dash, underscore",
        )
    return name
