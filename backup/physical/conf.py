"""The settings of a server that recovers: ours, not those in the base backup.

The settings in the base backup were written for production's host: an archive command, synchronous standbys,
preloaded libraries, rules for logins. ``postgresql.auto.conf`` is always read, so it is replaced too. A few settings
must be at least as large as on the original; the control file has their values, and the server's log names those that
were raised later.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from backup.errors import VerificationError

# pg_controldata's names of the settings that recovery requires to be at least as large as on the original.
_AT_LEAST = {
    "max_connections": "max_connections setting",
    "max_worker_processes": "max_worker_processes setting",
    "max_wal_senders": "max_wal_senders setting",
    "max_prepared_transactions": "max_prepared_xacts setting",
    "max_locks_per_transaction": "max_locks_per_xact setting",
}
# Enough table locks for a dump that reads all tables at once.
MIN_LOCKS = 1024
# Files of the base that are replaced by ours; the originals are kept.
REPLACED = ("postgresql.conf", "postgresql.auto.conf", "pg_hba.conf", "pg_ident.conf")
HBA = "local all all trust\n"


def control(text: str) -> dict[str, str]:
    """The fields that ``pg_controldata`` prints."""
    pairs = (line.partition(":") for line in text.splitlines() if ":" in line)
    return {name.strip(): value.strip() for name, _, value in pairs}


def needed(fields: Mapping[str, str]) -> dict[str, str]:
    """The settings that recovery does not accept below their original values.

    Raises:
        VerificationError: the control file does not name them.
    """
    found = {}
    for setting, name in _AT_LEAST.items():
        value = fields.get(name, "")
        if not value.isascii() or not value.isdigit():
            raise VerificationError(
                f"the control file of the base backup does not have {name}",
                hint="the base backup is damaged, or its PostgreSQL is not known here: use another base backup",
            )
        found[setting] = value
    found["max_locks_per_transaction"] = str(max(MIN_LOCKS, int(found["max_locks_per_transaction"])))
    return found


# What the server's log prints when the replayed WAL raises one of these settings.
_LOWER = re.compile(
    r"(max_\w+) = \d+ is a lower setting than on the primary server, where its value was (\d+)\."
)


def raised(log: str) -> dict[str, str]:
    """The settings that were larger on the original, according to a server's log."""
    return {name: value for name, value in _LOWER.findall(log) if name in _AT_LEAST}


def install(data: Path, aside: Path) -> None:
    """Put empty configuration files and our rules for logins into a data folder; the originals are moved aside."""
    aside.mkdir(mode=0o700)
    for name in REPLACED:
        if (data / name).exists():
            (data / name).rename(aside / name)
        (data / name).write_text(HBA if name == "pg_hba.conf" else "")


def put_back(data: Path, aside: Path) -> None:
    """Undo :func:`install`."""
    for name in REPLACED:
        if (aside / name).exists():
            (aside / name).rename(data / name)
        else:
            (data / name).unlink()
    aside.rmdir()
