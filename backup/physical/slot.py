"""The replication slot: how much WAL it keeps, and whether it may exist at all."""

import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from backup.errors import PreflightError, ReplicationError
from backup.physical import lsn
from backup.physical.walsender import SERVER_LOG, WalSender

# One slot for each server. It is also the lock that keeps a second sidecar out.
NAME = "posthub_wal"
APPLICATION = "posthub-wal"
Ask = Callable[[str], list[tuple[str | None, ...]]]
"""Runs an SQL statement on the server; each value as text."""
_MIB = 1 << 20
_NAMES = re.compile(r'"((?:[^"]|"")*)"|([^\s,()"]+)')
_STATUS = f"""
SELECT s.wal_status, s.restart_lsn::text, s.active::text, s.safe_wal_size::text, g.now::text,
       pg_catalog.pg_wal_lsn_diff(g.now, s.restart_lsn)::text
FROM (SELECT CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_receive_lsn()
             ELSE pg_catalog.pg_current_wal_lsn() END AS now) g
LEFT JOIN pg_catalog.pg_replication_slots s ON s.slot_name = '{NAME}'
"""

State = Literal["none", "reserved", "extended", "unreserved", "lost"]


@dataclass(frozen=True)
class SlotStatus:
    """The server's status of our slot.

    Attributes:
        state: ``none`` if there is no slot; the others are PostgreSQL's words.
        position: the oldest position that it keeps; None if it keeps nothing.
        safe_bytes: WAL that can be written before the slot may be lost; None if there is no limit or no slot.
        retained_bytes: WAL behind the server's position that it keeps; None if it keeps nothing.
        current: the server's position.
    """

    state: State
    position: int | None = None
    active: bool = False
    safe_bytes: int | None = None
    retained_bytes: int | None = None
    current: int = 0

    @property
    def kept(self) -> int:
        """The oldest position that it keeps.

        Raises:
            ReplicationError: it keeps nothing, although it was just created.
        """
        if self.position is None:
            raise ReplicationError(f"the slot {NAME} keeps nothing", hint=SERVER_LOG)
        return self.position

    def is_dead(self, cap: int) -> bool:
        """Whether it keeps nothing, regardless of its state: 16 and 17 accept a lost slot again and call it unreserved.

        Args:
            cap: bytes that the server lets a slot keep. A slot that lags by less has no other reason to be unreserved.
        """
        return self.state == "lost" or (
            self.state == "unreserved" and self.retained_bytes is not None and self.retained_bytes < cap
        )


def status(ask: Ask) -> SlotStatus:
    """Ask the server about our slot.

    Raises:
        ReplicationError: the server does not answer.
    """
    state, position, active, safe, current, retained = ask(_STATUS)[0]
    known: tuple[State, ...] = ("reserved", "extended", "unreserved", "lost")
    # A slot that was created without a reservation keeps nothing either.
    found = next((each for each in known if each == state), "none" if active is None else "lost")
    return SlotStatus(
        found,
        lsn.parse(position) if position else None,
        active == "true",
        int(safe) if safe else None,
        int(retained) if retained else None,
        lsn.parse(current) if current else 0,
    )


def cap(ask: Ask) -> int | None:
    """Bytes that the server lets a slot keep (max_slot_wal_keep_size); None: no limit."""
    value = int(setting(ask, "max_slot_wal_keep_size"))
    return None if value < 0 else value * _MIB


def setting(ask: Ask, name: str) -> str:
    """The plain value of a setting, in the unit of ``pg_settings``; empty if this version does not have it."""
    rows = ask(f"SELECT setting FROM pg_catalog.pg_settings WHERE name = '{name}'")
    return (rows[0][0] or "") if rows else ""


def refuse_unsafe(sender: WalSender) -> int:
    """Ensure that we can never stop production; returns the cap in bytes. Without a cap, our slot is dropped.

    Raises:
        PreflightError: a slot could fill the server's disk, or commits would wait for us.
    """
    limit = cap(sender.query)
    if limit is None:
        with suppress(ReplicationError):  # in use: another process streams, and detects the same
            release(sender)
        raise PreflightError(
            "max_slot_wal_keep_size is -1: if this sidecar stops, the WAL that is kept for it fills the server's disk",
            hint="set max_slot_wal_keep_size, such as 10GB, and reload the server: docs/pitr.md",
        )
    names = setting(sender.query, "synchronous_standby_names")
    if is_synchronous(names):
        raise PreflightError(
            f"synchronous_standby_names is {names!r}: every commit would wait until this sidecar has stored it",
            hint=f"name the real standbys there; {APPLICATION} must not be among them, nor *",
        )
    return limit


def is_synchronous(names: str) -> bool:
    """Whether a value of ``synchronous_standby_names`` includes us."""
    words = [quoted.replace('""', '"') or plain for quoted, plain in _NAMES.findall(names)]
    return any(word == "*" or word.lower() == APPLICATION for word in words)


def provide(sender: WalSender, limit: int) -> tuple[SlotStatus, bool]:
    """Our slot, created if it is missing and recreated if it keeps nothing; and whether it was created.

    Args:
        limit: see :meth:`SlotStatus.is_dead`.
    """
    known = status(sender.query)
    if known.state != "none" and not known.is_dead(limit):
        return known, False
    if known.state != "none":
        sender.drop_slot(NAME)
    sender.create_slot(NAME)
    return status(sender.query), True


def renew(sender: WalSender) -> SlotStatus:
    """Recreate our slot, which kept less than it should."""
    release(sender)
    sender.create_slot(NAME)
    return status(sender.query)


def release(sender: WalSender) -> bool:
    """Drop our slot, which frees what it keeps; returns whether there was one.

    Raises:
        ReplicationError: it is in use.
    """
    try:
        sender.drop_slot(NAME)
    except ReplicationError as error:
        if error.sqlstate == "42704":
            return False
        raise
    return True
