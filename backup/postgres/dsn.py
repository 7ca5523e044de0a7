"""Connection parameters of a PostgreSQL database. The password is separate from everything that may be shown."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from backup.programs import clean_environment
from sidecar import UsageError

# Schemes that Django settings use for PostgreSQL.
_SCHEMES = {
    "postgres": "postgresql",
    "postgresql": "postgresql",
    "postgis": "postgresql",
    "psql": "postgresql",
}
# Secrets other than the password, which a passfile cannot contain.
_SECRET = frozenset({"sslpassword", "oauth_client_secret", "scram_client_key", "scram_server_key"})
HINT = "use postgresql://user:password@host:5432/database"


@dataclass(frozen=True)
class Address:
    """Connection parameters without secrets (``public``), and the secrets."""

    public: Mapping[str, str]
    password: str = field(default="", repr=False)

    @property
    def database(self) -> str:
        return self.public.get("dbname", "")

    @property
    def conninfo(self) -> str:
        """The parameters for a program's argument list, without the password."""
        return make_conninfo("", **self.public)

    def named(self, database: str) -> "Address":
        """The address of another database on the same server."""
        return Address({**self.public, "dbname": database}, self.password)

    def __str__(self) -> str:
        host = self.public.get("host", "local socket")
        return f"{self.database} on {host}:{self.public.get('port', '5432')}"


def parse(url: str, variable: str = "DATABASE_URL") -> Address:
    """Read a database URL.

    Raises:
        UsageError: the scheme is wrong, or libpq rejects the URL. The password is never shown.
    """
    parts = urlsplit(url)
    scheme = _SCHEMES.get(parts.scheme.partition("+")[0])
    if scheme is None:
        raise UsageError(f"{variable} has the scheme {parts.scheme!r}, not postgresql", hint=HINT)
    try:
        values = conninfo_to_dict(urlunsplit(parts._replace(scheme=scheme)))
    except psycopg.ProgrammingError:
        raise UsageError(f"{variable} is not a valid PostgreSQL URL", hint=HINT) from None
    if found := sorted(_SECRET.intersection(values)):
        raise UsageError(
            f"{variable} has {found[0]}, which programs accept only on their command line",
            hint="use a key without a password, in a file that only this user may read",
        )
    public = {key: str(value) for key, value in values.items() if value is not None and key != "password"}
    if not public.get("dbname"):
        raise UsageError(f"{variable} does not name a database", hint=HINT)
    return Address(public, str(values.get("password") or ""))


@contextmanager
def child_access(address: Address) -> Iterator[tuple[dict[str, str], tuple[int, ...]]]:
    """Environment and inherited descriptors that let a child process log in, with no password in either.

    The password is in a passfile that exists only in memory, and only as long as this process.
    """
    environment = clean_environment()
    if not address.password:
        yield environment, ()
        return
    handle = os.memfd_create("passfile", 0)
    try:
        os.fchmod(handle, 0o600)  # libpq rejects a passfile that others may read
        os.write(handle, f"*:*:*:*:{_escaped(address.password)}\n".encode())
        yield {**environment, "PGPASSFILE": f"/proc/self/fd/{handle}"}, (handle,)
    finally:
        os.close(handle)


def _escaped(password: str) -> str:
    return password.replace("\\", "\\\\").replace(":", "\\:")
