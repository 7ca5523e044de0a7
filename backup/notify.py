"""Sends notifications without Prometheus: to a webhook, by mail, to Slack, Telegram, … through Apprise."""

import logging
from collections.abc import Callable
from typing import Any

from backup.catalogue import layout
from backup.catalogue.document import decode, encode
from backup.catalogue.notified import Notified
from backup.catalogue.reader import History
from backup.policy.notices import Message, faults, messages
from backup.wiring import Wiring
from sidecar import OpsError, UsageError

log = logging.getLogger(__name__)

Send = Callable[[Message], bool]
HINT = "docs/backup.md has examples; https://github.com/caronc/apprise lists all services"


def notifier_for(wiring: Wiring) -> "Notifier | None":
    """The notifier that the settings ask for.

    Raises:
        UsageError: an address is not valid.
    """
    addresses = wiring.settings.notify_addresses
    return Notifier(wiring, sender(addresses)) if addresses else None


class Notifier:
    """Tells about each fault once, and once more when it is over. What could not be sent is tried again at the next look.

    Args:
        send: sends one message, and says whether everybody has got it.
    """

    def __init__(self, wiring: Wiring, send: Send) -> None:
        self._wiring = wiring
        self._send = send
        self._told: dict[str, dict[str, str]] = {}

    def look(self, history: History, *, died: bool = False) -> None:
        """Send what has changed for one database. It never raises: a backup must not fail because of it."""
        database = history.database
        now = faults(history, self._wiring.settings.rpo_target, self._wiring.clock(), died=died)
        told = self._known(database)
        before = dict(told)
        for message in messages(database, before, now):
            if not self._send(message):
                log.warning("a notification was not sent: %s", message.title)
            elif message.over:
                del told[message.kind]
            else:
                told[message.kind] = now[message.kind]
        if told != before:
            self._remember(database, told)

    def _known(self, database: str) -> dict[str, str]:
        if database not in self._told:
            key = layout.notified(database)
            try:
                if self._wiring.store.head(key) is None:
                    return self._told.setdefault(database, {})
                found, trust = decode(Notified, self._wiring.store.get(key), key, self._wiring.keys)
            except OpsError as error:
                log.warning("what was notified before is not known: %s", error.message)
                return self._told.setdefault(database, {})
            ours = trust in ("unchecked", "signed") and found.database == database
            self._told[database] = dict(found.faults) if ours else {}
        return self._told[database]

    def _remember(self, database: str, told: dict[str, str]) -> None:
        document = Notified(database=database, faults=told)
        try:
            self._wiring.store.put(layout.notified(database), encode(document, self._wiring.keys))
        except OpsError as error:
            log.warning("a restart may notify again: %s", error.message)


def sender(addresses: tuple[str, ...]) -> Send:
    """Sends to all addresses.

    Raises:
        UsageError: one of them is not one that Apprise knows. It is not shown, because it contains a secret.
    """
    import apprise  # it knows a hundred services, and takes as long to load as everything else

    # Its own lines contain addresses, which are secrets.
    logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)
    service: Any = apprise.Apprise()
    for number, address in enumerate(addresses, 1):
        if not service.add(address):
            raise UsageError(f"BACKUP_NOTIFY_URLS: address {number} is not one that Apprise knows", hint=HINT)

    def send(message: Message) -> bool:
        kind = apprise.NotifyType.SUCCESS if message.over else apprise.NotifyType.FAILURE
        return bool(service.notify(title=message.title, body=message.text, notify_type=kind))

    return send
