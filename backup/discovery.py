"""Finds all databases of a server, so that a new one need not be configured.

A database that disappears stays on the list, because its backups are there: its next run fails and is reported, until a
person says that it is gone (``BACKUP_DISCOVER_SKIP``). Databases that a restore has created or set aside do not count.
"""

import hashlib
import logging
import re
from collections.abc import Callable, Collection, Iterable
from fnmatch import fnmatchcase

from backup.catalogue import layout
from backup.catalogue.manifest import Manifest
from backup.postgres.databases import VERIFYING, WORKING, databases
from backup.postgres.dsn import Address
from backup.targets import PostgresTarget

log = logging.getLogger(__name__)

# Prefixes of the databases that restores and verifications create.
OURS = (WORKING, VERIFYING)
_PUT_ASIDE = frozenset({"restored", "before", "undone"})
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._-]+")
Newest = Callable[[str], Manifest | None]


class Discovery:
    """The databases of one server.

    Args:
        address: the address of any of its databases.
        skip: patterns of names, in which ``*`` and ``?`` stand for any characters.
        taken: names of targets that are configured one by one; a database with such a name is that target.

    Attributes:
        targets: the databases that were found last.
        closed: names of databases that are left out because they are templates, allow no connections, or are partly dropped.
        aside: names of databases that are left out because a restore has created them or set them aside.
    """

    def __init__(self, address: Address, skip: Collection[str], taken: Collection[str]) -> None:
        self.address = address
        self.targets: tuple[PostgresTarget, ...] = ()
        self.closed: tuple[str, ...] = ()
        self.aside: tuple[str, ...] = ()
        self._skip = skip
        self._taken = taken

    def refresh(self, stored: Iterable[str], newest: Newest) -> None:
        """Query the server again.

        Args:
            stored: names of databases that have backups in the store.
            newest: the newest manifest of such a database.

        Raises:
            PreflightError: the server cannot be reached. What was found before remains.
        """
        with databases(self.address) as server:
            marks, there, identifier = server.marks(), server.names(), server.identifier()
            closed = server.closed()
        aside = {name for name, mark in marks.items() if mark.state in _PUT_ASIDE}
        wanted = [name for name in there if self._is_wanted(name)]
        found = {target_name(name): name for name in wanted if name not in aside}
        self.aside = tuple(name for name in wanted if name in aside)
        self.closed = tuple(name for name in closed if self._is_wanted(name) and name not in aside)
        for name in self.closed:
            log.warning(
                "%s is not backed up: it is a template, allows no connections, or is partly dropped", name
            )
        refused = {target_name(name): name for name in self.closed}
        for name in self._gone(stored, found, identifier, newest):
            why = "can no longer be backed up" if name in refused else "is no longer on the server"
            log.warning("%s %s, and has backups; see BACKUP_DISCOVER_SKIP", name, why)
            found[name] = refused.get(name, name)
        self.targets = tuple(
            PostgresTarget(name, self.address.named(database)) for name, database in sorted(found.items())
        )

    def _is_wanted(self, name: str) -> bool:
        known = target_name(name) in self._taken or self._is_skipped(name)
        return not (known or name.startswith(OURS))

    def _is_skipped(self, name: str) -> bool:
        return any(fnmatchcase(name, pattern.replace("[", "[[]")) for pattern in self._skip)

    def _gone(
        self, stored: Iterable[str], found: Collection[str], identifier: str, newest: Newest
    ) -> Iterable[str]:
        """Databases of this server that have backups and no longer exist."""
        for name in stored:
            if name in found or name in self._taken or self._is_skipped(name) or not identifier:
                continue
            manifest = newest(name)
            if manifest is not None and manifest.server.system_identifier == identifier:
                yield name


def target_name(database: str) -> str:
    """The name of a database in the store: its own, or a similar one if its own cannot be a folder name."""
    if layout.NAME.fullmatch(database) and database != layout.ATTEMPTS:
        return database
    digest = hashlib.sha256(database.encode()).hexdigest()[:6]
    return f"{_NOT_IN_NAMES.sub('_', database).strip('._-') or 'database'}-{digest}"
