"""Sends notifications without Prometheus: to a webhook, by mail, to Slack, Telegram, … through Apprise."""

import logging
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from backup.catalogue import layout
from backup.catalogue.document import decode, encode, too_large
from backup.catalogue.history import History
from backup.catalogue.notified import Notified
from backup.catalogue.renewal import forget_others, renew, states
from backup.errors import CatalogueError
from backup.policy.notices import Message, faults, messages
from backup.store import ObjectInfo
from backup.wiring import Wiring
from sidecar import OpsError, UsageError, cli

log = logging.getLogger(__name__)

Send = Callable[[Message], bool]
_EARLIEST = datetime.min.replace(tzinfo=UTC)
_CALLS = re.compile(r"[<@]")
HINT = "docs/backup.md has examples; https://github.com/caronc/apprise lists all services"


def notifier_for(wiring: Wiring) -> "Notifier | None":
    """The notifier that the settings configure.

    Raises:
        UsageError: an address is not valid.
    """
    addresses = wiring.settings.notify_addresses
    return Notifier(wiring, sender(addresses)) if addresses else None


class Notifier:
    """Reports each fault once, and once more when it is over. A message that could not be sent is retried at the next check.

    Args:
        send: sends one message; returns whether it reached all addresses.
    """

    def __init__(self, wiring: Wiring, send: Send) -> None:
        self._wiring = wiring
        self._send = send
        self._reported: dict[str, dict[str, str]] = {}

    def send_changes(self, history: History, *, died: bool = False) -> None:
        """Send the changes of one database. It never raises: a backup must not fail because of it."""
        database = history.database
        now = faults(history, self._wiring.settings.rpo_target, self._wiring.clock(), died=died)
        reported = self._known(database)
        before = dict(reported)
        for message in messages(database, before, now):
            if not self._send(message):
                log.warning("a notification was not sent: %s", message.title)
            elif message.over:
                del reported[message.kind]
            else:
                reported[message.kind] = now[message.kind]
        if reported != before:
            self._remember(database, reported)

    def _known(self, database: str) -> dict[str, str]:
        if database not in self._reported:
            try:
                found = [
                    known
                    for info in states(self._wiring.store, layout.notified(database))
                    if (known := self._read(info, database))
                ]
            except OpsError as error:
                log.warning("what was notified before is not known: %s", error.message)
                found = []
            newest = max(found, key=lambda known: known.moment or _EARLIEST, default=None)
            self._reported[database] = dict(newest.faults) if newest else {}
        return self._reported[database]

    def _read(self, info: ObjectInfo, database: str) -> Notified | None:
        try:
            if info.size > Notified.max_bytes:
                raise too_large(Notified, info.size, info.key)
            found, trust = decode(Notified, self._wiring.store.get(info.key), info.key, self._wiring.keys)
        except CatalogueError as error:
            log.warning("what was notified before is not known: %s", error.message)
            return None
        return found if trust in ("unchecked", "signed") and found.database == database else None

    def _remember(self, database: str, reported: dict[str, str]) -> None:
        store, key = self._wiring.store, layout.notified(database)
        document = Notified(database=database, moment=self._wiring.clock(), faults=reported)
        data = encode(document, self._wiring.keys)
        try:
            forget_others(store, key, renew(store, key, data))
        except OpsError as error:
            log.warning("a restart may notify again: %s", error.message)


def inert(text: str) -> str:
    """The text without mentions: a table may be named ``<!channel>`` or ``@everyone``, which a chat would notify."""
    return _CALLS.sub(lambda found: f"{found[0]}\N{WORD JOINER}", cli.printable(text))


def sender(addresses: tuple[str, ...]) -> Send:
    """Sends to all addresses.

    Raises:
        UsageError: Apprise does not know one of them. It is not shown, because it contains a secret.
    """
    import apprise  # Apprise supports a hundred services, and takes as long to load as everything else

    # Its own log lines contain addresses, which are secrets.
    logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)
    service: Any = apprise.Apprise()
    for number, address in enumerate(addresses, 1):
        if not service.add(address):
            raise UsageError(f"BACKUP_NOTIFY_URLS: address {number} is not one that Apprise knows", hint=HINT)

    def send(message: Message) -> bool:
        kind = apprise.NotifyType.SUCCESS if message.over else apprise.NotifyType.FAILURE
        return bool(
            service.notify(
                title=inert(message.title),
                body=inert(message.text),
                notify_type=kind,
                body_format=apprise.NotifyFormat.TEXT,
            )
        )

    return send
