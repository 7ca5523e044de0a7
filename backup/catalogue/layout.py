"""The keys of everything in a store.

::

    {database}/{id}/database.dump.zst[.age]
    {database}/{id}/globals.sql.zst[.age]
    {database}/{id}/verification-{moment}.json
    {database}/{id}/hold[-{digest}].json        only if it is, or was, on hold
    {database}/{id}/manifest.json               written last: the commit
    {database}/attempts/{id}-{kind}.json
    {database}/notified[-{digest}].json         the faults that a person was notified of

A document that changes has further objects, named after their content, if the store does not allow the first one to be replaced
(:mod:`backup.catalogue.renewal`). The end of an attempt then has a separate ID.
"""

import hashlib
import re
from datetime import datetime

from backup.catalogue.ids import PATTERN, stamp

ARCHIVE = "database.dump"
GLOBALS = "globals.sql"
RDB = "dump.rdb"
MANIFEST = "manifest.json"
HOLD = "hold.json"
NOTIFIED = "notified.json"
ATTEMPTS = "attempts"

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_IN_BACKUP = re.compile(rf"(?P<database>[^/]+)/(?P<id>{PATTERN.pattern})/(?P<name>[^/]+)")
_STATE = re.compile(r"(-[0-9a-f]{16})?\.json")
_ATTEMPT = re.compile(rf"(?P<database>[^/]+)/{ATTEMPTS}/{PATTERN.pattern}-(?P<kind>[a-z]+)\.json")


def folder(database: str, backup_id: str) -> str:
    return f"{database}/{backup_id}"


def manifest(database: str, backup_id: str) -> str:
    return f"{folder(database, backup_id)}/{MANIFEST}"


def hold(database: str, backup_id: str) -> str:
    return f"{folder(database, backup_id)}/{HOLD}"


def report(database: str, backup_id: str, moment: datetime) -> str:
    return f"{folder(database, backup_id)}/verification-{stamp(moment)}.json"


def attempt(database: str, record_id: str, kind: str) -> str:
    return f"{database}/{ATTEMPTS}/{record_id}-{kind}.json"


def notified(database: str) -> str:
    return f"{database}/{NOTIFIED}"


def further(key: str, data: bytes) -> str:
    """The key of a document's next state, next to an object that the store does not allow to be replaced."""
    return f"{stem(key)}-{hashlib.sha256(data).hexdigest()[:16]}.json"


def stem(key: str) -> str:
    """What the keys of all states of a document begin with."""
    return key.removesuffix(".json")


def is_state(key: str, first: str) -> bool:
    """Whether a key is that of a document, or of one of its further states."""
    begin = stem(first)
    return key.startswith(begin) and _STATE.fullmatch(key, len(begin)) is not None


def split(key: str) -> tuple[str, str, str] | None:
    """Database, backup ID and object name of a key inside a backup's folder; None for any other key."""
    found = _IN_BACKUP.fullmatch(key)
    return (found["database"], found["id"], found["name"]) if found else None


def split_attempt(key: str) -> tuple[str, str] | None:
    """Database and kind of an attempt's key; None for any other key."""
    found = _ATTEMPT.fullmatch(key)
    return (found["database"], found["kind"]) if found else None


def is_hold(name: str) -> bool:
    return is_state(name, HOLD)


def is_report(name: str) -> bool:
    return name.startswith("verification-") and name.endswith(".json")
