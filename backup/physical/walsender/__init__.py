"""PostgreSQL's streaming replication protocol, through libpq: the part of a standby that talks to its primary.

Source of the format: the chapter "Streaming Replication Protocol" of PostgreSQL's documentation, versions 15 to 18.

A connection with ``replication=database`` instead of ``true`` is authorised by the ordinary ``host all all`` lines of
``pg_hba.conf``. It also takes SQL. It counts as a session of its database, so it is always one of ``postgres``: in
production's database it would keep a promotion from renaming that.

A connection does one thing at a time. After a failed ``START_REPLICATION`` or an interrupted copy it cannot be
used again: close it, and connect again. No object here may be used by two threads at the same time.
"""

from backup.physical.walsender.basebackup import MANIFEST, BaseArchive, BaseBackup, Tablespace
from backup.physical.walsender.link import SERVER_LOG
from backup.physical.walsender.sender import DATABASE, SlotPosition, System, WalSender
from backup.physical.walsender.walstream import Alive, Message, TimelineEnd, Wal, WalStream

__all__ = [
    "DATABASE",
    "MANIFEST",
    "SERVER_LOG",
    "Alive",
    "BaseArchive",
    "BaseBackup",
    "Message",
    "SlotPosition",
    "System",
    "Tablespace",
    "TimelineEnd",
    "Wal",
    "WalSender",
    "WalStream",
]
