"""Digests of the rows of large tables of a throwaway server, which several of its sessions read at once.

``pg_dump`` reads one table after the other in one session, and each row passes through its connection separately. Here the
server writes each table in pieces to files next to its data, and their bytes are digested in the order of the rows. Such a
digest is compared only with that of the same text in an archive. If it differs, for any reason, the table is dumped.
"""

import os
import stat
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from queue import SimpleQueue
from threading import Event

from psycopg import Connection, sql
from psycopg.rows import TupleRow

from backup.cancellation import Check, carry, check_cancelled
from backup.postgres.dsn import Address
from backup.postgres.session import session
from backup.progress import Progress
from backup.verify.digests import Digests, Key, Rows

# Size in bytes of a table, including what is stored apart from its rows, from which pieces of it are read in parallel.
LEAST = 16 << 20
# Bytes of a piece in the table.
PIECE = 8 << 20
# A table whose blocks have more bytes than this each, with what is stored apart, would have larger pieces.
MAX_BLOCK = PIECE
# Without its condition on positions, a piece would be the whole table. Several processes would return rows in any order.
_SETTINGS = {"enable_seqscan": "off", "enable_tidscan": "on", "max_parallel_workers_per_gather": "0"}
# Only tables that a dump has whole, and under the same name; of an extension's table, it may have a part.
_LARGE = """
SELECT nspname, relname, pg_get_userbyid(relowner), format('%%I.%%I', nspname, relname),
  (SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute
   WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped AND attgenerated = '') AS columns,
  pg_relation_size(c.oid) / current_setting('block_size')::int AS blocks, pg_table_size(c.oid) AS size
FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace JOIN pg_am a ON a.oid = relam
WHERE relkind = 'r' AND relpersistence <> 't' AND amname = 'heap' AND nspname !~ '^pg_'
  AND nspname <> 'information_schema' AND nspname || relname !~ '[\\n\\r]' AND pg_table_size(c.oid) >= %s
  AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = c.oid AND deptype = 'e')
ORDER BY size DESC
"""
_COPY = "COPY (SELECT {} FROM ONLY {} WHERE ctid >= '({},0)' AND ctid < '({},0)') TO {}"
# The first version that reads only the blocks that a condition on positions asks for.
FIRST_VERSION = 14
# More than any table has.
_LAST_BLOCK = (1 << 32) - 1
_BUFFER = 1 << 20
_PREFIX = "rows-"
_Sessions = SimpleQueue[Connection[TupleRow]]


@dataclass(frozen=True)
class Exchange:
    """How a throwaway server passes rows.

    Attributes:
        folder: where the server may write.
        sessions: how many read at once.
        least: bytes of the smallest table that is read in this way.
    """

    folder: Path
    sessions: int
    least: int = LEAST


@dataclass(frozen=True)
class Large:
    """A large table.

    Attributes:
        name: schema and table.
        quoted: the same as SQL.
        columns: those that a dump has, as SQL.
    """

    name: tuple[str, str]
    owner: str
    quoted: str
    columns: str
    blocks: int
    size: int

    @property
    def key(self) -> Key:
        """Its rows in a dump."""
        return ("TABLE DATA", *self.name)

    @property
    def copy(self) -> bytes:
        """The statement before its rows in a dump."""
        return f"COPY {self.quoted} ({self.columns}) FROM stdin;\n".encode()

    def pieces(self) -> Iterator[tuple[int, int]]:
        """The first block of each piece, and the one after its last."""
        step = max(1, self.blocks * PIECE // max(self.size, 1))
        for first in range(0, self.blocks, step):
            yield first, (first + step if first + step < self.blocks else _LAST_BLOCK)


def large_tables(address: Address, least: int = LEAST) -> list[Large]:
    """The large tables of a database in UTF-8, the largest first; not those with blocks over :data:`MAX_BLOCK`."""
    with session(address) as connection:
        rows = connection.execute(_LARGE, [least]).fetchall()
    return [
        Large((schema, table), owner, quoted, columns, blocks, size)
        for schema, table, owner, quoted, columns, blocks, size in rows
        if columns and size <= blocks * MAX_BLOCK
    ]


def read(
    tables: Sequence[Large],
    address: Address,
    exchange: Exchange,
    check: Check,
    progress: Progress,
    unwanted: Callable[[], bool],
) -> Digests:
    """The digests of the rows of tables, as a dump would have them.

    Args:
        check: called for each megabyte; raises to stop.
        progress: called with the bytes of the rows.
        unwanted: whether the digests are no longer wanted.

    Raises:
        DumpError, PreflightError, OSError: they could not be read.
    """
    ended, idle = Event(), _Sessions()
    with ExitStack() as stack:
        # The server leaves what it has written of a piece that fails.
        stack.callback(_remove, exchange.folder)
        for _ in range(exchange.sessions):
            idle.put(stack.enter_context(session(address, changes=_SETTINGS)))
        pool = stack.enter_context(ThreadPoolExecutor(exchange.sessions, thread_name_prefix="rows"))
        stack.callback(pool.shutdown, wait=False, cancel_futures=True)
        stack.callback(ended.set)
        write = carry(_write, over=lambda: ended.is_set() or unwanted())
        pieces = (
            (
                number,
                pool.submit(write, table, piece, exchange.folder / f"{_PREFIX}{number}-{piece[0]}", idle),
            )
            for number, table in enumerate(tables)
            for piece in table.pieces()
        )
        digests = [Rows(table.owner.encode(), table.copy) for table in tables]
        # One more than there are sessions, so that none waits until the piece before has been digested.
        written = deque(islice(pieces, exchange.sessions + 1))
        while written:
            number, piece = written.popleft()
            _digest(piece, digests[number], check, progress)
            written.extend(islice(pieces, 1))
    return {table.key: rows.digest() for table, rows in zip(tables, digests, strict=True)}


def _write(table: Large, piece: tuple[int, int], file: Path, idle: _Sessions) -> tuple[Path, int]:
    """Have the server write a piece of a table to a file; returns the file and its number of rows."""
    connection = idle.get()
    try:
        statement = sql.SQL(_COPY).format(
            sql.SQL(table.columns), sql.SQL(table.quoted), *piece, sql.Literal(str(file))
        )
        return file, connection.execute(statement).rowcount
    finally:
        idle.put(connection)


def _digest(piece: "Future[tuple[Path, int]]", rows: Rows, check: Check, progress: Progress) -> None:
    file, count = piece.result()
    buffer = memoryview(bytearray(_BUFFER))
    with os.fdopen(os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb", buffering=0) as written:
        file.unlink()
        # Code in the database may have put something endless in its place.
        if not stat.S_ISREG(os.fstat(written.fileno()).st_mode):
            raise OSError(f"{file} is not a regular file")
        while length := written.readinto(buffer):
            check_cancelled()
            check()
            rows.add(buffer[:length])
            progress(length)
    rows.count += count


def _remove(folder: Path) -> None:
    for file in folder.glob(f"{_PREFIX}*"):
        file.unlink(missing_ok=True)
