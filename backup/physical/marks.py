"""Named restore points and their positions, recorded in the store so that a recovery finds its base backup."""

import hashlib
import logging
from typing import ClassVar

from pydantic import Field

from backup.catalogue.document import Count, Document, Moment, decode, encode, too_large
from backup.catalogue.signatures import Keyring
from backup.errors import CatalogueError, NotFoundError
from backup.physical import lsn
from backup.physical.archive import server_prefix
from backup.physical.targets import AtMark
from backup.postgres import inventory
from backup.postgres.session import session
from backup.store import Store
from backup.targets import ServerTarget
from sidecar import UsageError

log = logging.getLogger(__name__)


class RestorePoint(Document):
    """A restore point in the WAL of a server."""

    kind_of_document: ClassVar[str] = "wal-mark"

    server: str
    system_identifier: str
    name: str
    position: Count = Field(description="the end of its record: the start of the next one")
    timeline: Count
    moment: Moment


def make(store: Store, server: ServerTarget, mark: AtMark, keys: Keyring) -> RestorePoint:
    """Write a restore point into the server's WAL, and record it.

    Raises:
        UsageError: the name is taken. Recovery stops at the first restore point with a name.
        DumpError: the role may not create restore points.
        StoreError: it was created, but could not be recorded.
    """
    key = _key(server.name, mark.name)
    if store.head(key) is not None:
        raise UsageError(f"{mark} exists", hint="choose another name, such as one with the date")
    with session(server.address) as connection:
        system = inventory.system_identifier(connection)
        row = connection.execute(
            "SELECT pg_create_restore_point(%s)::text, clock_timestamp(),"
            " ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::bigint",
            [mark.name],
        ).fetchone()
    assert row is not None
    made = RestorePoint(
        server=server.name,
        system_identifier=system,
        name=mark.name,
        position=lsn.parse(row[0]),
        timeline=int(row[2]),
        moment=row[1],
    )
    store.put(key, encode(made, keys))
    return made


def find(store: Store, server: str, mark: AtMark, keys: Keyring) -> RestorePoint:
    """The record of a restore point.

    Raises:
        UsageError: there is no such restore point, or it is not ours.
    """
    key = _key(server, mark.name)
    try:
        info = store.head(key)
        if info is not None and info.size > RestorePoint.max_bytes:
            raise too_large(RestorePoint, info.size, key)
        found, trust = decode(RestorePoint, store.get(key), key, keys)
    except NotFoundError:
        found, trust = None, "unsigned"
    except CatalogueError as error:
        raise UsageError(error.message, hint=error.hint) from None
    if (
        found is None
        or trust not in ("unchecked", "signed")
        or (found.name, found.server) != (mark.name, server)
    ):
        raise UsageError(
            f"{mark} is not known",
            hint="marks are set with: python -m backup mark NAME; use --at TIME instead",
        )
    return found


def _key(server: str, name: str) -> str:
    return f"{server_prefix(server)}marks/{hashlib.sha256(name.encode()).hexdigest()[:32]}.json"
