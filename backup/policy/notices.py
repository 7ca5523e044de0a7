"""Which faults a person is notified of, and the messages for that. Pure.

A fault is notified once, however long it lasts, and once more when it is over.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from backup.catalogue.history import History
from sidecar.humanize import duration

# In the order in which they are notified.
TITLES = {
    "failed": "the backup of {} failed",
    "late": "the backup of {} is late",
    "differs": "the backup of {} failed its verification",
    "unlike": "the backup of {} is unlike the ones before it",
}


@dataclass(frozen=True)
class Message:
    """One message.

    Attributes:
        kind: the fault, a key of :data:`TITLES`.
        over: it is over.
    """

    kind: str
    title: str
    text: str
    over: bool = False


def faults(history: History, rpo: float, now: datetime, *, died: bool = False) -> dict[str, str]:
    """The faults of a database's backups at this moment, in words, by kind.

    Args:
        rpo: seconds after which the newest backup is late.
        died: the newest run was killed.
    """
    found = {}
    last, latest = history.newest("backup", finished=True), history.latest
    if died:
        found["failed"] = "the run was killed; see its log"
    elif last is not None and last.outcome == "failure":
        found["failed"] = f"{last.error}. Try: {last.hint}"
    if latest is None:
        if history.attempts:
            found["late"] = "there is no backup yet"
        return found
    age = (now - latest.manifest.taken).total_seconds()
    if age > rpo:
        found["late"] = f"the newest backup {latest.id} is {duration(age)} old, the target is {duration(rpo)}"
    if latest.report is not None and not latest.report.ok and not latest.unprovable:
        found["differs"] = (
            f"{latest.id}: {latest.report.differences[0] if latest.report.differences else 'see show'}"
        )
    if latest.unlike:
        found["unlike"] = f"{latest.id}: {'; '.join(latest.manifest.anomalies)}"
    return found


def messages(database: str, reported: Mapping[str, str], now: Mapping[str, str]) -> Iterator[Message]:
    """The messages that the change since the last report requires."""
    for kind, title in TITLES.items():
        if kind in now and kind not in reported:
            yield Message(kind, title.format(database), now[kind])
        elif kind in reported and kind not in now:
            yield Message(kind, f"over: {title.format(database)}", f"It was: {reported[kind]}", over=True)
