"""How we know that a test message arrived: it is read back at the other end, or the other end took it.

Read back is proof. Where nothing can be read back (Telegram shows a bot no messages of its own), what remains is that
Alertmanager's counters rose for that integration and its failures did not: the provider's API said yes.
"""

import imaplib
import re
from collections.abc import Callable
from typing import Protocol
from urllib.parse import unquote, urlsplit

import requests
from prometheus_client.parser import text_string_to_metric_families

TIMEOUT = 15
SENT = "alertmanager_notifications_total"
FAILED = "alertmanager_notifications_failed_total"


class Evidence(Protocol):
    """Something that can tell whether a message is there."""

    kind: str

    def begin(self) -> None:
        """Note how things stand before the message is sent."""

    def found(self, nonce: str) -> bool:
        """Whether the message is there. Raises OSError, requests' or imaplib's errors when it cannot be told."""


class Page:
    """A page of the receiver's own that shows its messages: Slack's history, PagerDuty's incidents, an inbox."""

    kind = "read-back"

    def __init__(self, url: str, authorization: str | None = None) -> None:
        self._url = url
        self._headers = {"Authorization": authorization} if authorization else {}

    def begin(self) -> None:
        """Nothing: the nonce is new."""

    def found(self, nonce: str) -> bool:
        answer = requests.get(self._url, headers=self._headers, timeout=TIMEOUT)
        answer.raise_for_status()
        return nonce in answer.text


class Mailbox:
    """A mailbox by IMAP over TLS."""

    kind = "read-back"

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port or 993
        self._user, self._password = unquote(parts.username or ""), unquote(parts.password or "")
        self._folder = parts.path.strip("/") or "INBOX"

    def begin(self) -> None:
        """Nothing: the nonce is new."""

    def found(self, nonce: str) -> bool:
        with imaplib.IMAP4_SSL(self._host, self._port, timeout=TIMEOUT) as mail:
            mail.login(self._user, self._password)
            mail.select(self._folder, readonly=True)
            _, answer = mail.search(None, "TEXT", f'"{nonce}"')
        return bool(answer and answer[0])


class Accepted:
    """Alertmanager's word that the provider took what it was given since the message was sent."""

    kind = "accepted"

    def __init__(self, integration: str, read: Callable[[], str]) -> None:
        self._integration = integration
        self._read = read
        self._before = (0.0, 0.0)

    def begin(self) -> None:
        self._before = self._counts()

    def found(self, nonce: str) -> bool:  # noqa: ARG002 - counters know no message
        sent, failed = self._counts()
        return sent > self._before[0] and failed == self._before[1]

    def _counts(self) -> tuple[float, float]:
        totals = {SENT: 0.0, FAILED: 0.0}
        for family in text_string_to_metric_families(_relevant(self._read())):
            for sample in family.samples:
                if sample.name in totals and sample.labels.get("integration") == self._integration:
                    totals[sample.name] += sample.value
        return totals[SENT], totals[FAILED]


def _relevant(text: str) -> str:
    return "\n".join(re.findall(r"(?m)^alertmanager_notifications_(?:failed_)?total\{.*$", text)) + "\n"
