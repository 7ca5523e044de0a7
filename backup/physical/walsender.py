"""PostgreSQL's streaming replication protocol, through libpq: the part of a standby that talks to its primary.

Source of the format: the chapter "Streaming Replication Protocol" of PostgreSQL's documentation, versions 15 to 18.

A connection with ``replication=database`` instead of ``true`` is authorised by the ordinary ``host all all`` lines of
``pg_hba.conf``. It also takes SQL. It counts as a session of its database, so it is always one of ``postgres``: in
production's database it would keep a promotion from renaming that.

A connection does one thing at a time. After a failed ``START_REPLICATION`` or an interrupted copy it cannot be
used any more: close it, and connect again. No object here may be used by two threads at the same time.
"""

import select
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Self

from psycopg import Error, pq
from psycopg.conninfo import make_conninfo
from psycopg.pq.abc import PGconn, PGresult

from backup.cancellation import look
from backup.errors import PreflightError, ReplicationError
from backup.physical import lsn
from backup.postgres.dsn import Address
from backup.postgres.session import CONNECT_SECONDS, HINT, KEEPALIVES

DATABASE = "postgres"
LEAST_VERSION = 150000
# A server that has not heard from us for this long frees the slot for our successor.
TIMEOUT_SECONDS = 15
SERVER_LOG = "check the PostgreSQL server's log"
MANIFEST = "backup_manifest"
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_DATA = struct.Struct("!QQq")
_ALIVE = struct.Struct("!QqB")
_STATUS = struct.Struct("!cQQQqB")
# Seconds between two checks of a wait.
_LOOK_SECONDS = 0.5
_ENDED_WELL = (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK)


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


@dataclass(frozen=True)
class Wal:
    """A piece of the WAL: ``data`` begins at the position ``start``.

    Attributes:
        latest: the end of the server's WAL when it sent this.
        sent: the server's clock when it sent this.
    """

    start: int
    data: bytes | memoryview
    latest: int
    sent: datetime

    @property
    def end(self) -> int:
        """The first position after the piece."""
        return self.start + len(self.data)


@dataclass(frozen=True)
class Alive:
    """A keepalive message. ``wanted``: the server requires one in return, or it ends the connection."""

    latest: int
    sent: datetime
    wanted: bool


@dataclass(frozen=True)
class TimelineEnd:
    """The timeline ends at ``position``: everything up to there was received. ``timeline`` is the next one."""

    timeline: int
    position: int


Message = Wal | Alive | TimelineEnd


@dataclass(frozen=True)
class Tablespace:
    """A tablespace of a base backup; ``oid`` and ``location`` are None for the data folder itself.

    Attributes:
        size: approximate, in bytes; None if the server did not estimate it.
    """

    oid: int | None
    location: str | None
    size: int | None


class WalSender:
    """One connection to a server's WAL sender. Use :meth:`connect`; as a context manager it is closed at the end."""

    def __init__(self, link: "_Link") -> None:
        self._link = link

    @classmethod
    def connect(
        cls,
        address: Address,
        *,
        application: str = "posthub-wal",
        timeout_seconds: int = TIMEOUT_SECONDS,
        check: Callable[[], None] = look,
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
        given = {
            **KEEPALIVES,
            **server.public,
            "replication": "database",
            "client_encoding": "UTF8",
            "connect_timeout": str(CONNECT_SECONDS),
            "fallback_application_name": application,
            "options": server.options({"wal_sender_timeout": f"{timeout_seconds}s"}),
        }
        if server.password:
            given["password"] = server.password
        connection = _connected(make_conninfo("", **given).encode(), given.get("host", ""), check)
        if connection.status != pq.ConnStatus.OK:
            message = _one_line(connection.get_error_message()) or "it does not answer"
            connection.finish()
            raise PreflightError(f"cannot connect to {server} for replication: {message}", hint=HINT)
        if connection.server_version < LEAST_VERSION:
            version = connection.server_version // 10000
            connection.finish()
            raise PreflightError(
                f"{server} is PostgreSQL {version}; physical backups need 15 or newer",
                hint="take logical backups of this server's databases (BACKUP_DATABASE_URLS)",
            )
        return cls(_Link(connection, str(server), check))

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
        return System(_given(row[0]), int(_given(row[1])), lsn.parse(_given(row[2])))

    def show(self, setting: str) -> str:
        """The value of a setting, as the server writes it (with its unit)."""
        return _given(self._one_row(f"SHOW {_quoted(setting)}")[0])

    def segment_size(self) -> int:
        """Bytes of a WAL segment."""
        row = self._one_row("SELECT setting FROM pg_catalog.pg_settings WHERE name = 'wal_segment_size'")
        return lsn.checked_size(int(_given(row[0])))

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
            tuple(_text(done, row, column) for column in range(done.nfields)) for row in range(done.ntuples)
        ]

    def stream(self, start: int, timeline: int, *, slot: str | None = None) -> "WalStream":
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
        end = _end_of_timeline(self._link.well(result))
        self._link.drain()
        return WalStream(self._link, end)

    def base_backup(
        self, label: str, *, fast: bool = False, max_rate_kib: int | None = None, estimate: bool = True
    ) -> "BaseBackup":
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
            start=lsn.parse(_given(_text(begun, 0, 0))),
            timeline=int(_given(_text(begun, 0, 1))),
            tablespaces=tuple(_tablespace(spaces, row) for row in range(spaces.ntuples)),
        )

    def _one_row(self, command: str) -> tuple[str | None, ...]:
        rows = self.query(command)
        if len(rows) != 1:
            raise self._link.error(f"{command.split(maxsplit=1)[0]} returned {len(rows)} rows")
        return rows[0]


class WalStream:
    """The WAL as it arrives. Poll it with :meth:`read`, and report stored positions with :meth:`confirm`.

    Attributes:
        end: the end of the timeline, once it is reached.
    """

    def __init__(self, link: "_Link", end: TimelineEnd | None = None) -> None:
        self.end = end
        self._link = link
        self._behind = False

    def fileno(self) -> int:
        """The socket, for waiting on it together with others."""
        return self._link.connection.socket

    def read(self, timeout: float = 0.0, *, gather: float = 0.0) -> Message | None:
        """The next message; None if none arrives within ``timeout`` seconds. After the end, the end again.

        Args:
            gather: seconds in which further messages may arrive, to be read from the socket together. Each read costs
                more than a small message does. A server that has more to send is not kept waiting.

        Raises:
            ReplicationError: the server ended the stream, or the connection was lost. What was read before is valid.
        """
        if self.end is not None:
            return self.end
        until = time.monotonic() + timeout
        while True:
            size, data = self._link.copied()
            if size > 0:
                message = self._message(data)
                if message is not None:
                    return message
            elif size < 0:
                self.end = self._finish()
                return self.end
            elif not self._link.wait(until - time.monotonic(), 0.0 if self._behind else gather):
                return None

    def confirm(
        self, received: int, stored: int, *, now: datetime | None = None, answer: bool = False
    ) -> None:
        """Report the positions up to which the WAL was received and is safely stored. The slot moves to the latter.

        Args:
            now: the time of our clock, which the server shows; by default the current time.
            answer: ask the server for a keepalive message.

        Raises:
            ReplicationError: the connection was lost.
        """
        clock = ((now or datetime.now(UTC)) - _EPOCH) // timedelta(microseconds=1)
        with self._link.unbroken():
            self._link.connection.put_copy_data(
                _STATUS.pack(b"r", received, stored, stored, clock, int(answer))
            )
            self._link.connection.flush()

    def _message(self, data: memoryview) -> Message | None:
        """A message of the stream; None for a kind that this version does not know."""
        kind, body = bytes(data[:1]), data[1:]
        try:
            if kind == b"w":
                start, latest, clock = _DATA.unpack_from(body)
                wal = Wal(start, body[_DATA.size :], latest, _moment(clock))
                self._behind = latest > wal.end
                return wal
            if kind == b"k":
                latest, clock, wanted = _ALIVE.unpack_from(body)
                return Alive(latest, _moment(clock), bool(wanted))
        except (struct.error, OverflowError):
            raise self._link.error(f"a message of kind {kind!r} has {len(body)} bytes") from None
        return None

    def _finish(self) -> TimelineEnd:
        """Handle the server's end of the copy: the end of the timeline, or an error."""
        with suppress(Error):  # a server that ended it with an error accepts nothing more
            self._link.connection.put_copy_end()
        end = _end_of_timeline(self._link.well(self._link.next_result()))
        self._link.drain()
        return end


class BaseBackup:
    """A base backup in progress. Read all of :meth:`archives`, in order; then :attr:`end` is known.

    Attributes:
        start: the position from which WAL is needed.
        timeline: the timeline of the start.
        tablespaces: what is coming.
        end: the position up to which WAL is needed before the backup is consistent; None until everything was read.
        end_timeline: the timeline of the end; None until everything was read.
    """

    def __init__(
        self, link: "_Link", *, start: int, timeline: int, tablespaces: tuple[Tablespace, ...]
    ) -> None:
        self.start = start
        self.timeline = timeline
        self.tablespaces = tablespaces
        self.end: int | None = None
        self.end_timeline: int | None = None
        self._link = link
        self._ahead: str | None = None

    def archives(self) -> Iterator["BaseArchive"]:
        """The archives, in the server's order; the backup's own manifest comes last. Unread parts are skipped.

        Raises:
            ReplicationError: the server ended the backup, or the connection was lost.
        """
        while self.end is None:
            if self._ahead is None and self.piece():
                raise self._link.error("the base backup begins without an archive")
            name, self._ahead = self._ahead, None
            if name is not None:
                archive = BaseArchive(self, name)
                yield archive
                while archive.read():
                    pass

    def piece(self) -> bytes:
        """The next bytes of the archive that is being read; empty at its end.

        Raises:
            ReplicationError: the server ended the backup, or the connection was lost.
        """
        while self._ahead is None and self.end is None:
            message = self._message()
            if message is None:
                self._finish()
                break
            kind, body = message[:1], message[1:]
            if kind == b"d" and body:
                return body
            if kind == b"m":
                self._ahead = MANIFEST
            elif kind == b"n":
                self._ahead = body.split(b"\0")[0].decode(errors="replace")
            elif kind not in (b"d", b"p"):
                raise self._link.error(f"the base backup contains a message of kind {kind!r}")
        return b""

    def _message(self) -> bytes | None:
        """The next message; None at the end of the copy."""
        while True:
            size, data = self._link.copied()
            if size > 0:
                return bytes(data)
            if size < 0:
                return None
            self._link.wait_and_check()

    def _finish(self) -> None:
        result = self._link.well(self._link.next_result())
        end, timeline = _given(_text(result, 0, 0)), _given(_text(result, 0, 1))
        # An error may still follow, such as a wrong checksum; then it is not a backup.
        while (rest := self._link.next_result()) is not None:
            self._link.well(rest)
        self.end, self.end_timeline = lsn.parse(end), int(timeline)


class BaseArchive:
    """One archive of a base backup: ``base.tar``, ``{oid}.tar`` of a tablespace, or :data:`MANIFEST`."""

    def __init__(self, backup: BaseBackup, name: str) -> None:
        self.name = name
        self._backup = backup
        self._ended = False

    def read(self) -> bytes:
        """The next bytes; empty at the end.

        Raises:
            ReplicationError: the server ended the backup, or the connection was lost.
        """
        data = b"" if self._ended else self._backup.piece()
        self._ended = not data
        return data


@dataclass(frozen=True)
class _Link:
    """A connection whose waits can be stopped, and whose failures become errors with the server's messages."""

    connection: PGconn
    where: str
    check: Callable[[], None]

    def run(self, command: str) -> PGresult:
        """The result of a command that ends at once. After a failure, the next command can be sent."""
        result = self.ask(command)
        try:
            return self.well(result)
        finally:
            with suppress(ReplicationError):
                self.drain()

    def ask(self, command: str) -> PGresult | None:
        """Send a command, and wait for its first result."""
        with self.unbroken():
            self.connection.send_query(command.encode())
        return self.next_result()

    def next_result(self) -> PGresult | None:
        """The next result; None after the last one."""
        with self.unbroken():
            while self.connection.is_busy():
                self.wait_and_check()
            return self.connection.get_result()

    def well(self, result: PGresult | None) -> PGresult:
        """A result that is not an error."""
        if result is None or result.status not in _ENDED_WELL:
            raise self.failure(result)
        return result

    def copied(self) -> tuple[int, memoryview]:
        """The next message of a copy: its size, 0 if none is there yet, below 0 at the end."""
        with self.unbroken():
            return self.connection.get_copy_data(1)

    def wait_and_check(self) -> None:
        self.check()
        self.wait(_LOOK_SECONDS)

    def wait(self, seconds: float, gather: float = 0.0) -> bool:
        """Wait for the server to send something, and then for ``gather`` seconds; returns whether it may have."""
        if self.connection.status != pq.ConnStatus.OK:
            raise self.failure(None)
        if not select.select([self.connection.socket], [], [], max(0.0, seconds))[0]:
            return False
        if gather:
            time.sleep(gather)
        with self.unbroken():
            self.connection.consume_input()
        return True

    def drain(self) -> None:
        """Read the remaining results of a command, so that the next one can be sent."""
        while self.next_result() is not None:
            pass

    def failure(self, result: PGresult | None) -> ReplicationError:
        """The server's error, after the remaining results were read."""
        state = ""
        if result is None or result.status in _ENDED_WELL:
            message = _one_line(self.connection.get_error_message())
        else:
            state = (result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode(errors="replace")
            message = _one_line(result.get_error_message())
        return self.error(message or "the command ended without its result", state)

    def error(self, message: str, sqlstate: str = "") -> ReplicationError:
        return ReplicationError(f"{self.where}: {message}", hint=SERVER_LOG, sqlstate=sqlstate)

    @contextmanager
    def unbroken(self) -> Iterator[None]:
        """libpq's own failures: the connection is lost."""
        try:
            yield
        except Error as error:
            raise ReplicationError(f"{self.where}: {_one_line(str(error))}", hint=HINT) from None


def _connected(conninfo: bytes, hosts: str, check: Callable[[], None]) -> PGconn:
    """A connection that was made, or has failed. libpq's own wait would not notice a stop request."""
    until = time.monotonic() + CONNECT_SECONDS * (hosts.count(",") + 1)
    connection = pq.PGconn.connect_start(conninfo)
    try:
        while connection.status != pq.ConnStatus.BAD and time.monotonic() < until:
            check()
            polled = connection.connect_poll()
            if polled in (pq.PollingStatus.OK, pq.PollingStatus.FAILED):
                return connection
            wait = [connection.socket]
            reading = polled == pq.PollingStatus.READING
            select.select(wait if reading else [], [] if reading else wait, [], _LOOK_SECONDS)
    except BaseException:
        connection.finish()
        raise
    return connection


def _moment(clock: int) -> datetime:
    return _EPOCH + timedelta(microseconds=clock)


def _end_of_timeline(result: PGresult) -> TimelineEnd:
    return TimelineEnd(int(_given(_text(result, 0, 0))), lsn.parse(_given(_text(result, 0, 1))))


def _tablespace(result: PGresult, row: int) -> Tablespace:
    oid, location, size = (_text(result, row, column) for column in range(3))
    return Tablespace(int(oid) if oid else None, location, int(size) * 1024 if size else None)


def _text(result: PGresult, row: int, column: int) -> str | None:
    value = result.get_value(row, column)
    return None if value is None else value.decode(errors="replace")


def _given(value: str | None) -> str:
    if value is None:
        raise ReplicationError("the server left out a value that the protocol requires", hint=SERVER_LOG)
    return value


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
