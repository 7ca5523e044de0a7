"""Creates, drops, renames and marks the databases of a server.

A mark is a line of the database's own comment. So it follows the database through every rename, it changes in the same
transaction as the name, and the owner may set it, without being a superuser.
"""

import logging
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Literal

import psycopg
from psycopg import Connection, sql
from psycopg.rows import TupleRow
from pydantic import ValidationError

from backup.catalogue.document import Part
from backup.catalogue.manifest import Server
from backup.errors import BusyError, PreflightError
from backup.postgres import inventory
from backup.postgres.dsn import Address
from backup.postgres.session import session
from sidecar import OpsError

MARK = "posthub-ops: "
# Unfinished databases. They may carry a copied comment, which does not apply to them.
WORKING = "posthub_ops_restoring_"
# The databases of verifications on a given server.
VERIFYING = "posthub_ops_verify_"
# "post" as a number: the first half of the key of our locks on names.
LOCK = 0x706F7374
MAINTENANCE = ("postgres", "template1")
# The limit -2 marks a database whose DROP DATABASE was interrupted: it can only be dropped.
_OPEN = "datallowconn AND NOT datistemplate AND datconnlimit <> -2"
# The first version in which databases have providers of locales.
PROVIDERS = 150000
_MARKS = """
SELECT datname, line FROM pg_database, unnest(string_to_array(shobj_description(oid, 'pg_database'), E'\\n')) line
WHERE starts_with(line, %s) AND NOT starts_with(datname, %s)
"""
_COMMENT = "SELECT textsend(shobj_description(oid, 'pg_database')) FROM pg_database WHERE datname = %s"
# For a comment whose encoding differs from that of the maintenance database: the text stays on the server.
_MARK_THERE = """
DECLARE kept text := (SELECT string_agg(line, E'\\n' ORDER BY n) FROM pg_database,
  unnest(string_to_array(shobj_description(oid, 'pg_database'), E'\\n')) WITH ORDINALITY AS lines (line, n)
  WHERE datname = {name} AND NOT starts_with(line, {sign}));
BEGIN EXECUTE format('COMMENT ON DATABASE %I IS %L', {name}, concat_ws(E'\\n', kept, {mark})); END
"""
# Subscriptions are in a catalogue that all databases share. One without a slot can be dropped without its publisher.
_SUBSCRIBED = "SELECT 1 FROM pg_subscription s JOIN pg_database d ON d.oid = subdbid WHERE datname = %s"
_SUBSCRIPTIONS = """
SELECT subname FROM pg_subscription WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
_POWERFUL = """
SELECT rolname FROM pg_roles r WHERE EXISTS (SELECT FROM pg_roles s WHERE pg_has_role(r.oid, s.oid, 'MEMBER') AND (
  s.rolsuper OR s.rolname IN ('pg_execute_server_program', 'pg_read_server_files', 'pg_write_server_files')))
"""
# The name stays on the server.
_DROP_ROLE = "BEGIN EXECUTE format('DROP ROLE %I', (SELECT rolname FROM pg_roles WHERE oid = {})); END"
_UNSUBSCRIBE = (
    "ALTER SUBSCRIPTION {} DISABLE",
    "ALTER SUBSCRIPTION {} SET (slot_name = NONE)",
    "DROP SUBSCRIPTION {}",
)
log = logging.getLogger(__name__)


class Written(Part):
    """What writing to a database changes.

    Attributes:
        rows: number of rows that were written so far.
        definitions: a digest of the transactions that wrote its definitions.
    """

    rows: int
    definitions: str


class Mark(Part):
    """The role of a database in restores.

    Attributes:
        state: ``restored`` can be promoted; ``promoted`` is in production; ``before`` was in production until then;
            ``returned`` is in production again after a rollback; ``undone`` was replaced by a rollback.
        database: the database whose data it contains, by its name in the store.
        backup: the backup it was restored from.
        partner: the database that it was swapped with.
        origin: the name it had before it was promoted.
        differences: number of differences that the verification of the restored database found.
        anomalies: how its backup differs from those before it.
        written: what had been written to a restored database when it was verified; None if not known.
    """

    state: Literal["restored", "promoted", "before", "returned", "undone"]
    moment: datetime
    database: str
    backup: str = ""
    taken: datetime | None = None
    partner: str = ""
    origin: str = ""
    differences: int = 0
    anomalies: tuple[str, ...] = ()
    written: Written | None = None

    @property
    def promoted(self) -> bool:
        return self.state == "promoted"


class Databases:
    """The databases of one server, through a connection to a database that is not changed.

    Attributes:
        address: the address of the database that is restored.
        maintenance: the address of the database of the connection.
    """

    def __init__(self, connection: Connection[TupleRow], address: Address) -> None:
        self._connection = connection
        self.address = address
        self.maintenance = address.named(connection.info.dbname)

    def exists(self, name: str) -> bool:
        found = self._connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name])
        return found.fetchone() is not None

    def names(self) -> list[str]:
        """Databases that accept connections, without templates."""
        found = self._connection.execute(f"SELECT datname FROM pg_database WHERE {_OPEN} ORDER BY 1")
        return [row[0] for row in found]

    def closed(self) -> list[str]:
        """All other databases, without the server's own templates."""
        found = self._connection.execute(
            f"SELECT datname FROM pg_database WHERE NOT ({_OPEN})"
            " AND datname NOT IN ('template0', 'template1') ORDER BY 1"
        )
        return [row[0] for row in found]

    def identifier(self) -> str:
        """The system identifier of the cluster; empty if the role may not ask."""
        return inventory.system_identifier(self._connection)

    def starting_with(self, prefix: str) -> list[str]:
        """Names of databases with a prefix."""
        found = self._connection.execute(
            "SELECT datname FROM pg_database WHERE starts_with(datname, %s) ORDER BY 1", [prefix]
        )
        return [row[0] for row in found]

    def size(self, name: str) -> int:
        """Bytes on the server's disk."""
        row = self._connection.execute("SELECT pg_database_size(%s::name)", [name]).fetchone()
        assert row is not None
        return int(row[0])

    def may_create(self) -> bool:
        """Whether our role may create databases."""
        row = self._connection.execute(
            "SELECT rolsuper OR rolcreatedb FROM pg_roles WHERE rolname = current_user"
        ).fetchone()
        return bool(row and row[0])

    def role_ids(self) -> set[int]:
        """The object IDs of all roles; their names may be in the encoding of any database."""
        return {row[0] for row in self._connection.execute("SELECT oid::bigint FROM pg_roles")}

    def drop_roles(self, ids: Collection[int]) -> None:
        """Drop roles, except those that something has started to use."""
        for each in ids:
            with suppress(psycopg.Error):
                self._connection.execute(sql.SQL("DO {}").format(sql.Literal(_DROP_ROLE.format(each))))

    def create(self, name: str, like: Server) -> None:
        """Create an empty database with the encoding and locale of the original.

        Raises:
            PreflightError: the server lacks the original's locale, or refuses.
        """
        try:
            self._connection.execute(creation(name, like, self._connection.info.server_version))
        except psycopg.Error as error:
            raise PreflightError(
                f"the database {name} cannot be created: {error.diag.message_primary}",
                hint=f"the original's locale is {like.collate}: install it on the server's host, or restore into"
                " a server of the same image",
            ) from None

    def drop(self, name: str) -> None:
        """Drop a database despite connections to it, and despite a template flag or subscriptions."""
        if not self.exists(name):
            return
        self._release(name)
        self._connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(_name(name)))

    def _release(self, name: str) -> None:
        """Remove what would keep a database from being dropped. If that fails, the drop itself reports it."""
        with suppress(psycopg.Error):
            self._connection.execute(sql.SQL("ALTER DATABASE {} IS_TEMPLATE false").format(_name(name)))
        if not self._connection.execute(_SUBSCRIBED, [name]).fetchone():
            return
        with suppress(OpsError), session(self.address.named(name), application="posthub-restore") as inner:
            for (subscription,) in inner.execute(_SUBSCRIPTIONS).fetchall():
                for form in _UNSUBSCRIBE:
                    inner.execute(sql.SQL(form).format(_name(subscription)))

    def rename(self, old: str, new: str) -> None:
        self._connection.execute(sql.SQL("ALTER DATABASE {} RENAME TO {}").format(_name(old), _name(new)))

    def marks(self) -> dict[str, Mark]:
        """All marked databases, by name."""
        found = self._connection.execute(_MARKS, [MARK, WORKING])
        marks = {name: _mark(line.removeprefix(MARK)) for name, line in found.fetchall()}
        return {name: mark for name, mark in marks.items() if mark is not None}

    def mark(self, name: str, mark: Mark) -> None:
        """Mark a database; within :meth:`transaction`, in the same transaction."""
        row = self._connection.execute(_COMMENT, [name]).fetchone()
        line = MARK + mark.model_dump_json()
        try:
            comment = bytes(row[0]).decode() if row and row[0] else ""
        except UnicodeDecodeError:
            body = sql.SQL(_MARK_THERE).format(name=name, sign=MARK, mark=line)
            self._connection.execute(sql.SQL("DO {}").format(sql.Literal(body.as_string(self._connection))))
            return
        kept = [line for line in comment.split("\n") if not line.startswith(MARK)] if comment else []
        text = "\n".join([*kept, line])
        self._connection.execute(
            sql.SQL("COMMENT ON DATABASE {} IS {}").format(_name(name), sql.Literal(text))
        )

    def prepared(self, name: str) -> int:
        """Number of prepared transactions. A database with one cannot be renamed."""
        row = self._connection.execute(
            "SELECT count(*) FROM pg_prepared_xacts WHERE database = %s", [name]
        ).fetchone()
        assert row is not None
        return int(row[0])

    def accepts_connections(self, name: str) -> bool:
        """Whether a database admits anyone; ``ALTER DATABASE … ALLOW_CONNECTIONS false`` keeps even superusers out."""
        row = self._connection.execute(
            "SELECT datallowconn FROM pg_database WHERE datname = %s", [name]
        ).fetchone()
        return bool(row and row[0])

    @property
    def lost(self) -> bool:
        """Whether our connection has ended."""
        return self._connection.closed

    def connected(self, name: str) -> list[str]:
        """Connected applications by name, with their number of connections."""
        found = self._connection.execute(
            "SELECT coalesce(nullif(application_name, ''), usename, backend_type), count(*) FROM pg_stat_activity"
            " WHERE datname = %s AND pid <> pg_backend_pid() GROUP BY 1 ORDER BY 1",
            [name],
        )
        return [f"{count} of {who}" for who, count in found.fetchall()]

    def disconnect(self, name: str) -> None:
        """End all connections to a database."""
        self._connection.execute(
            # Background workers of extensions too: they block the rename as clients do, and have no owner. One that we
            # may not end must not keep the others from being ended.
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()"
            " AND backend_type <> 'autovacuum worker' AND CASE WHEN usesysid IS NULL"
            " THEN (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)"
            " ELSE pg_has_role(usesysid, 'USAGE') OR pg_has_role('pg_signal_backend', 'USAGE')"
            " AND NOT (SELECT rolsuper FROM pg_roles WHERE oid = usesysid) END",
            [name],
        )

    def sweep(self, prefix: str) -> None:
        """Drop databases with this prefix and no locked name: their creator has died. A failure to drop one is ignored."""
        for name in self.starting_with(prefix):
            if not self.try_lock(name):
                continue
            try:
                self.drop(name)
            except psycopg.Error as error:
                log.warning("the leftover database %s cannot be dropped: %s", name, error)
            finally:
                self._unlock(name)

    @contextmanager
    def transaction(self, lock_timeout: str = "20s") -> Iterator[None]:
        """One transaction: all or nothing."""
        with self._connection.transaction():
            self._connection.execute(f"SET LOCAL lock_timeout = '{lock_timeout}'")
            yield

    @contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Take the lock on a name for the block.

        Raises:
            BusyError: another process has the lock.
        """
        if not self.try_lock(name):
            raise BusyError(
                f"another restore of {name} is in progress",
                hint="wait until it ends; its lock ends with its process",
            )
        try:
            yield
        finally:
            self._unlock(name)

    def try_lock(self, name: str) -> bool:
        row = self._connection.execute(
            "SELECT pg_try_advisory_lock(%s, hashtext(%s))", [LOCK, name]
        ).fetchone()
        return bool(row and row[0])

    def _unlock(self, name: str) -> None:
        self._connection.execute("SELECT pg_advisory_unlock(%s, hashtext(%s))", [LOCK, name])


@contextmanager
def databases(address: Address) -> Iterator[Databases]:
    """The databases of a server, through its maintenance database.

    Raises:
        PreflightError: the server cannot be reached, or rejects the login.
    """
    with session(address.named(_maintenance(address)), application="posthub-restore") as connection:
        yield Databases(connection, address)


def roles_seen(address: Address) -> tuple[set[str], set[str]]:
    """The names of all roles as a database sees them, and of those among them whose members can do anything on the server.

    The latter are superusers, and roles that run programs or use files there.
    """
    with session(address, application="posthub-restore") as connection:
        names = {row[0] for row in connection.execute("SELECT rolname FROM pg_roles")}
        return names, {row[0] for row in connection.execute(_POWERFUL)}


def creation(name: str, like: Server, version: int) -> sql.Composed:
    """The statement that creates a database with the original's encoding and locale on a server of a version."""
    parts = [
        sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING {} LC_COLLATE {} LC_CTYPE {}").format(
            sql.Identifier(name),
            sql.Literal(like.encoding),
            sql.Literal(like.collate),
            sql.Literal(like.ctype),
        )
    ]
    provider = {"i": ("icu", "ICU_LOCALE"), "b": ("builtin", "BUILTIN_LOCALE")}.get(like.locale_provider)
    if provider and like.locale:
        parts.append(
            sql.SQL("LOCALE_PROVIDER {} {} {}").format(
                sql.SQL(provider[0]), sql.SQL(provider[1]), sql.Literal(like.locale)
            )
        )
        if like.collation_rules:
            parts.append(sql.SQL("ICU_RULES {}").format(sql.Literal(like.collation_rules)))
    elif like.locale_provider == "c" and version >= PROVIDERS:
        # The server's own default may be another one.
        parts.append(sql.SQL("LOCALE_PROVIDER libc").format())
    return sql.SQL(" ").join(parts)


def _maintenance(address: Address) -> str:
    """A database that exists and is not restored."""
    problem: PreflightError | None = None
    for name in MAINTENANCE:
        try:
            with session(address.named(name)):
                return name
        except PreflightError as error:
            problem = problem or error
    assert problem is not None
    raise problem


def _mark(text: str) -> Mark | None:
    try:
        return Mark.model_validate_json(text)
    except ValidationError:
        return None


def _name(name: str) -> sql.Identifier:
    return sql.Identifier(name)
