"""The commands of a WAL sender: identity, slots, histories, SQL, and the beginning of a stream or a base backup."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from psycopg import pq
from psycopg.conninfo import make_conninfo

from backup.cancellation import check_cancelled
from backup.errors import PreflightError
from backup.physical import lsn
from backup.physical.walsender.basebackup import BaseBackup, tablespace
from backup.physical.walsender.link import Link, connected, given, one_line, text
from backup.physical.walsender.walstream import WalStream, end_of_timeline
from backup.postgres.dsn import Address
from backup.postgres.session import CONNECT_SECONDS, HINT, KEEPALIVES

DATABASE = "postgres"
MIN_VERSION = 150000
# A server that has not heard from us for this long frees the slot for our successor.
TIMEOUT_SECONDS = 15


@dataclass(frozen=True)
class System:
    """The identity of a server.

    Attributes:
        identifier: of the cluster, in decimal digits.
        timeline: the one that it writes now.
        position: the end of its WAL on disk.
    """

    identifier: str
    timeline: int
    position: int


@dataclass(frozen=True)
class SlotPosition:
    """The position of a physical slot. Both are None for a slot that reserves nothing, and for a lost one."""

    position: int | None
    timeline: int | None


class WalSender:
    """One connection to a server's WAL sender. Use :meth:`connect`; as a context manager it is closed at the end."""

    def __init__(self, link: Link) -> None:
        self._link = link

    @classmethod
    def connect(
        cls,
        address: Address,
        *,
        application: str = "posthub-wal",
        timeout_seconds: int = TIMEOUT_SECONDS,
        check: Callable[[], None] = check_cancelled,
    ) -> Self:
        """Connect to the database ``postgres`` of a server, for replication.

        Args:
            address: the server; its database is ignored.
            application: the name shown in ``pg_stat_replication``.
            timeout_seconds: the server ends the connection if it hears nothing for this long.
            check: called while the server is silent; raises to stop the wait.

        Raises:
            PreflightError: the server cannot be reached, rejects us, or is too old.
        """
        server = address.named(DATABASE)
        parameters = {
            **KEEPALIVES,
            **server.public,
            "replication": "database",
            "client_encoding": "UTF8",
            "connect_timeout": str(CONNECT_SECONDS),
            "fallback_application_name": application,
            "options": server.options({"wal_sender_timeout": f"{timeout_seconds}s"}),
        }
        if server.password:
            parameters["password"] = server.password
        connection = connected(make_conninfo("", **parameters).encode(), parameters.get("host", ""), check)
        if connection.status != pq.ConnStatus.OK:
            message = one_line(connection.get_error_message()) or "it does not answer"
            connection.finish()
            raise PreflightError(f"cannot connect to {server} for replication: {message}", hint=HINT)
        if connection.server_version < MIN_VERSION:
            version = connection.server_version // 10000
            connection.finish()
            raise PreflightError(
                f"{server} is PostgreSQL {version}; physical backups need 15 or newer",
                hint="take logical backups of this server's databases (BACKUP_DATABASE_URLS)",
            )
        return cls(Link(connection, str(server), check))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def version(self) -> int:
        """The server's version as a number: 160014 is 16.14."""
        return self._link.connection.server_version

    def close(self) -> None:
        """End the connection, whatever its state. Calling it again does nothing."""
        self._link.connection.finish()

    def identify(self) -> System:
        """Query the server's identity."""
        row = self._one_row("IDENTIFY_SYSTEM")
        return System(given(row[0]), int(given(row[1])), lsn.parse(given(row[2])))

    def show(self, setting: str) -> str:
        """The value of a setting, as the server writes it (with its unit)."""
        return given(self._one_row(f"SHOW {_quoted(setting)}")[0])

    def segment_size(self) -> int:
        """Bytes of a WAL segment."""
        row = self._one_row("SELECT setting FROM pg_catalog.pg_settings WHERE name = 'wal_segment_size'")
        return lsn.checked_size(int(given(row[0])))

    def read_slot(self, slot: str) -> SlotPosition | None:
        """The position of a physical slot; None if there is none with that name.

        Raises:
            ReplicationError: the slot is a logical one.
        """
        kind, position, timeline = self._one_row(f"READ_REPLICATION_SLOT {_quoted(slot)}")
        if kind is None:
            return None
        return SlotPosition(
            lsn.parse(position) if position else None, int(timeline) if timeline is not None else None
        )

    def create_slot(self, slot: str) -> None:
        """Create a physical slot that keeps the WAL from now on.

        Raises:
            ReplicationError: it exists (``sqlstate`` 42710), or the server has no slot left (53400).
        """
        self._link.run(f"CREATE_REPLICATION_SLOT {_quoted(slot)} PHYSICAL RESERVE_WAL")

    def drop_slot(self, slot: str) -> None:
        """Drop a slot, and with it what it keeps.

        Raises:
            ReplicationError: it does not exist (``sqlstate`` 42704), or it is in use (55006).
        """
        self._link.run(f"DROP_REPLICATION_SLOT {_quoted(slot)}")

    def history(self, timeline: int) -> bytes:
        """The content of a timeline's history file. Timeline 1 has none.

        Raises:
            ReplicationError: the server does not have it.
        """
        return self._link.run(f"TIMELINE_HISTORY {timeline}").get_value(0, 1) or b""

    def query(self, sql: str) -> list[tuple[str | None, ...]]:
        """The rows of an SQL statement, each value as text.

        Raises:
            ReplicationError: the server refuses the statement, or the connection was lost.
        """
        done = self._link.run(sql)
        return [
            tuple(text(done, row, column) for column in range(done.nfields)) for row in range(done.ntuples)
        ]

    def stream(self, start: int, timeline: int, *, slot: str | None = None) -> WalStream:
        """Begin to receive the WAL of a timeline from a position on. The connection then does nothing else.

        Args:
            slot: the slot, which keeps what was not yet confirmed as stored.

        Raises:
            ReplicationError: the slot is in use (``sqlstate`` 55006) or lost (55000), … That the server no longer has
                the WAL (58P01) is an error of the first read.
        """
        through = f"SLOT {_quoted(slot)} " if slot else ""
        result = self._link.ask(f"START_REPLICATION {through}PHYSICAL {lsn.text(start)} TIMELINE {timeline}")
        if result is not None and result.status == pq.ExecStatus.COPY_BOTH:
            return WalStream(self._link)
        # The timeline ends exactly where we begin, so there is nothing to receive.
        end = end_of_timeline(self._link.well(result))
        self._link.drain()
        return WalStream(self._link, end)

    def base_backup(
        self, label: str, *, fast: bool = False, max_rate_kib: int | None = None, estimate: bool = True
    ) -> BaseBackup:
        """Begin a base backup without WAL. The connection then does nothing else until the backup has ended.

        Args:
            label: the label in ``backup_label``.
            fast: have the server write a checkpoint at once, which costs I/O; otherwise it takes minutes to begin.
            max_rate_kib: limit in KiB per second, from 32 to 1,048,576; None: no limit.
            estimate: have the server estimate the sizes of the tablespaces first.

        Raises:
            ReplicationError: the server refuses, or the connection was lost.
        """
        words = [
            f"LABEL {_literal(label)}",
            f"CHECKPOINT '{'fast' if fast else 'spread'}'",
            "WAL false",
            "MANIFEST 'yes'",
            "TABLESPACE_MAP true",
            f"PROGRESS {'true' if estimate else 'false'}",
            *([f"MAX_RATE {max_rate_kib}"] if max_rate_kib else []),
        ]
        link = self._link
        begun = link.well(link.ask(f"BASE_BACKUP ({', '.join(words)})"))
        spaces = link.well(link.next_result())
        copying = link.next_result()
        if copying is None or copying.status != pq.ExecStatus.COPY_OUT:
            raise link.failure(copying)
        return BaseBackup(
            link,
            start=lsn.parse(given(text(begun, 0, 0))),
            timeline=int(given(text(begun, 0, 1))),
            tablespaces=tuple(tablespace(spaces, row) for row in range(spaces.ntuples)),
        )

    def _one_row(self, command: str) -> tuple[str | None, ...]:
        rows = self.query(command)
        if len(rows) != 1:
            raise self._link.error(f"{command.split(maxsplit=1)[0]} returned {len(rows)} rows")
        return rows[0]


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
