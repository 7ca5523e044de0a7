"""Checks on the server whether a new snapshot has a place in the WAL, before anything is dumped.

Under load, commits become visible in a different order from that in the WAL, and a dump of such a snapshot can never be
compared with a recovery. So another snapshot is taken, if the WAL can be read.
"""

import logging
import time
from pathlib import Path

from backup.catalogue.manifest import Place
from backup.errors import PreflightError, ReplicationError, VerificationError
from backup.load.throwaway import private_folder
from backup.physical import cut, lsn, records, waldump
from backup.physical.walsender import TimelineEnd, Wal, WalSender
from backup.postgres.dsn import Address
from backup.wiring import Wiring

log = logging.getLogger(__name__)

# A commit becomes visible moments after it is in the WAL; anything further back is certainly visible.
BACK = 1 << 20
# Everything that a snapshot sees is on disk, except commits that no one waits for: the server sends those within a second.
SILENCE_SECONDS = 1.0
_WAIT_SECONDS = 0.2


def has_place(wiring: Wiring, system: str, place: Place) -> bool:
    """Whether a snapshot has a place in the WAL. Also True if that cannot be determined: a dump is more important.

    Args:
        system: the identifier of the cluster.
    """
    if not wiring.programs.has("pg_waldump"):
        return True
    for server in wiring.servers:
        try:
            if (torn := _is_torn(wiring, server.address, system, place)) is not None:
                return not torn
        except (PreflightError, ReplicationError, VerificationError) as error:
            log.debug("%s: the place of the snapshot is not known: %s", server.name, error.message)
    return True


def _is_torn(wiring: Wiring, address: Address, system: str, place: Place) -> bool | None:
    """None if it is another server."""
    with WalSender.connect(address, application="posthub-probe", check=wiring.stop.check) as sender:
        found, size = sender.identify(), sender.segment_size()
        if found.identifier != system:
            return None
        # The first segment of a cluster is number 1.
        start = lsn.segment_start(max(place.position - BACK, size), size)
        with private_folder(wiring.settings.work_dir) as folder:
            names = _received(sender, folder, start, place.position, found.timeline, size)
            printed = waldump.printed(wiring.programs, folder, names, folder, wiring.stop.check)
            return cut.is_torn(cut.parse_snapshot(place.snapshot), records.endings(printed), place.position)


def _received(sender: WalSender, folder: Path, start: int, end: int, timeline: int, size: int) -> list[str]:
    """Write the WAL between two positions into files; their names."""
    stream = sender.stream(start, timeline)
    data = bytearray()
    silent = time.monotonic()
    while start + len(data) < end and time.monotonic() - silent < SILENCE_SECONDS:
        message = stream.read(_WAIT_SECONDS)
        if isinstance(message, TimelineEnd):
            break
        if isinstance(message, Wal):
            data += message.data
            silent = time.monotonic()
    names = []
    for at in range(0, max(len(data), 1), size):
        name = lsn.segment_name(timeline, (start + at) // size, size)
        names.append(name)
        with (folder / name).open("wb") as file:
            file.write(data[at : at + size])
            file.truncate(size)
    return names
