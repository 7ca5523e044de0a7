"""Records of the write-ahead log as ``pg_waldump`` prints them, and what they say about transactions. Pure."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from backup.physical import lsn

_RECORD = re.compile(
    r"rmgr: (?P<manager>\w+) +len \(rec/tot\): +\d+/ *\d+, tx: +(?P<xid>\d+),"
    r" lsn: (?P<lsn>[0-9A-F]+/[0-9A-F]+), prev [0-9A-F]+/[0-9A-F]+, desc: (?P<text>.*)"
)
_MOMENT = r"(?P<moment>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d{1,6})?) UTC"
_ENDING = re.compile(rf"(?P<kind>COMMIT|ABORT)(?:_PREPARED (?P<prepared>\d+):)? {_MOMENT}")
_PREPARE = re.compile(rf"PREPARE gid .*: {_MOMENT}", re.DOTALL)
_DROP = re.compile(r"DROP dir (?P<folders>.*)")
_FOLDER = re.compile(r"(?P<tablespace>\d+)/(?P<database>\d+)")

Kind = Literal["commit", "abort", "prepare"]


@dataclass(frozen=True)
class Record:
    """One record.

    Attributes:
        manager: the resource manager that wrote it, such as ``Transaction``.
        lsn: the position at which it starts.
        xid: the transaction's number, 32 bits of it; 0 if it belongs to none.
        text: its description.
    """

    manager: str
    lsn: int
    xid: int
    text: str


@dataclass(frozen=True)
class Ending:
    """The record with which a transaction ends, or is prepared to end.

    Attributes:
        lsn: the position at which the record starts.
        xid: the number of the transaction that it ends, 32 bits of it.
        moment: the server's time.
    """

    kind: Kind
    lsn: int
    xid: int
    moment: datetime


def parse(lines: Iterable[str]) -> Iterator[Record]:
    """The records of a printed WAL; lines of any other form are left out."""
    for line in lines:
        if found := _RECORD.match(line):
            yield Record(found["manager"], lsn.parse(found["lsn"]), int(found["xid"]), found["text"])


def endings(records: Iterable[Record]) -> Iterator[Ending]:
    """The records that end a transaction, in the order of the WAL."""
    for record in records:
        if record.manager != "Transaction":
            continue
        if found := _ENDING.match(record.text):
            kind: Kind = "commit" if found["kind"] == "COMMIT" else "abort"
            xid = int(found["prepared"] or record.xid)
            yield Ending(kind, record.lsn, xid, _moment(found["moment"]))
        elif found := _PREPARE.match(record.text):
            yield Ending("prepare", record.lsn, record.xid, _moment(found["moment"]))


def copied_databases(records: Iterable[Record]) -> list[Record]:
    """The records of CREATE DATABASE … STRATEGY FILE_COPY.

    Replayed over a base backup that was made at the same time, such a copy copies files that are already newer.
    """
    return [each for each in records if each.manager == "Database" and "CREATE_FILE_COPY" in each.text]


def drops(records: Iterable[Record]) -> Iterator[tuple[Record, frozenset[int]]]:
    """The records that remove a database's files, each with the object ids of the databases."""
    for record in records:
        if record.manager == "Database" and (found := _DROP.match(record.text)):
            ids = frozenset(int(each["database"]) for each in _FOLDER.finditer(found["folders"]))
            yield record, ids


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)
