"""Connection parameters of a PostgreSQL database. The password is separate from everything that may be shown."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from backup.programs import options
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
_UNKNOWN_PARAMETER = re.compile(r'invalid URI query parameter: "([A-Za-z_][\w.-]{0,60})"')
_ROLE = re.compile(r"(?:^|\s)(?:-c\s*|--)role\s*=")
HINT = "give postgresql://user:password@host:5432/database"


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
        """The parameters for a program's argument list: no password, and no options, which are in the environment."""
        return make_conninfo("", **{name: value for name, value in self.public.items() if name != "options"})

    def options(self, settings: Mapping[str, str]) -> str:
        """The options of a connection: those of the address, overridden by our settings, except for a role to act as."""
        own = self.public.get("options", "")
        kept = ("role",) if _ROLE.search(own) else ()
        return (
            f"{own} {options({name: value for name, value in settings.items() if name not in kept})}".strip()
        )

    def with_settings(self, settings: Mapping[str, str]) -> "Address":
        """The same database, with settings for each connection to it."""
        return Address({**self.public, "options": self.options(settings)}, self.password)

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
    try:
        parts = urlsplit(url)
    except ValueError:
        raise UsageError(
            f"{variable} is not a valid URL",
            hint="percent-encode the password's special characters, such as [ as %5B",
        ) from None
    scheme = _SCHEMES.get(parts.scheme.partition("+")[0])
    if scheme is None:
        raise UsageError(f"{variable} has the scheme {parts.scheme!r}, not postgresql", hint=HINT)
    try:
        values = conninfo_to_dict(urlunsplit(parts._replace(scheme=scheme)))
    except psycopg.ProgrammingError as error:
        raise _refused(variable, str(error)) from None
    if found := sorted(_SECRET.intersection(values)):
        raise UsageError(
            f"{variable} has {found[0]}, which programs accept only on their command line",
            hint="use a key without a password, in a file that only this user may read",
        )
    public = {key: str(value) for key, value in values.items() if value is not None and key != "password"}
    if not public.get("dbname"):
        raise UsageError(f"{variable} does not name a database", hint=HINT)
    return Address(public, str(values.get("password") or ""))


def _refused(variable: str, reason: str) -> UsageError:
    """Name only parameters: anything else in the message may be part of the password."""
    if found := _UNKNOWN_PARAMETER.search(reason):
        return UsageError(
            f"{variable} has the parameter {found[1]}, which PostgreSQL does not know",
            hint=f"remove {found[1]} from the URL: it is meant for another program, such as Django or Prisma",
        )
    return UsageError(f"{variable} is not a valid PostgreSQL URL", hint=HINT)
