"""Whether a server can be streamed without ever disturbing production."""

from collections.abc import Iterator
from dataclasses import dataclass

from backup.physical import slot
from backup.physical.walsender import WalSender
from sidecar.humanize import size

# Connections for a base backup, the stream, and the stream that replaces a dead one.
SENDERS = 3


@dataclass(frozen=True)
class Finding:
    """One finding about a server. ``ok`` is None for a remark."""

    what: str
    ok: bool | None
    detail: str
    fix: str = ""


def findings(sender: WalSender) -> Iterator[Finding]:
    """Check the settings of a server.

    Raises:
        ReplicationError: it does not answer.
    """
    yield _cap(sender)
    yield _synchronous(sender)
    yield _enough(sender)
    yield _idle(sender)
    yield _rights(sender)


def _cap(sender: WalSender) -> Finding:
    found = slot.cap(sender.query)
    if found is None:
        return Finding(
            "limit",
            False,
            "max_slot_wal_keep_size is -1: WAL that is kept for a stopped sidecar would fill the disk",
            "set max_slot_wal_keep_size, such as 10GB, and reload the server",
        )
    return Finding("limit", True, f"a slot keeps at most {size(found)}")


def _synchronous(sender: WalSender) -> Finding:
    names = slot.setting(sender.query, "synchronous_standby_names")
    if slot.is_synchronous(names):
        return Finding(
            "commits",
            False,
            f"synchronous_standby_names is {names!r}: commits would wait for the sidecar",
            f"name the real standbys; neither * nor {slot.APPLICATION} may be among them",
        )
    return Finding("commits", True, "do not wait for the sidecar")


def _enough(sender: WalSender) -> Finding:
    level = slot.setting(sender.query, "wal_level")
    senders = int(slot.setting(sender.query, "max_wal_senders") or 0)
    slots = int(slot.setting(sender.query, "max_replication_slots") or 0)
    found = f"wal_level {level}, {senders} senders, {slots} slots"
    if level == "minimal" or senders < SENDERS or slots < 1:
        return Finding(
            "replication",
            False,
            found,
            f"set wal_level=replica, max_wal_senders of at least {SENDERS} and max_replication_slots, and restart the server",
        )
    return Finding("replication", True, found)


def _idle(sender: WalSender) -> Finding:
    """Since version 18, a slot can also expire."""
    seconds = int(slot.setting(sender.query, "idle_replication_slot_timeout") or 0)
    if seconds:
        return Finding(
            "idle slots",
            None,
            f"idle_replication_slot_timeout is {seconds} s: a sidecar that stops for longer leaves a gap",
            "set idle_replication_slot_timeout=0; max_slot_wal_keep_size is the limit that protects the disk",
        )
    return Finding("idle slots", True, "are kept")


def _rights(sender: WalSender) -> Finding:
    """The grants besides REPLICATION, without which no one could connect."""
    [(monitor, mark)] = sender.query(
        "SELECT pg_catalog.pg_has_role(current_user, 'pg_monitor', 'USAGE')::text, "
        "pg_catalog.has_function_privilege('pg_catalog.pg_create_restore_point(text)', 'EXECUTE')::text"
    )
    grants = {
        "pg_monitor": (monitor, "whether commits wait for the sidecar is not known"),
        "EXECUTE ON FUNCTION pg_create_restore_point(text)": (mark, "marks cannot be set"),
    }
    missing = {grant: lack for grant, (given, lack) in grants.items() if given != "true"}
    if missing:
        return Finding(
            "rights",
            None,
            "; ".join(missing.values()),
            " and ".join(f"GRANT {grant} TO the role" for grant in missing),
        )
    return Finding("rights", True, "suffice for the status of the slot and for marks")
