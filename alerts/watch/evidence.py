"""How we know that a test message arrived: it is read back at the other end, or the other end took it.

Read back is proof. Where nothing can be read back (Telegram shows a bot no messages of its own), what remains is that
Alertmanager counted a call of that integration that did not fail: the provider's API said yes.
"""

import imaplib
import re
import ssl
from collections.abc import Callable
from typing import Protocol
from urllib.parse import unquote, urlsplit

from prometheus_client.parser import text_string_to_metric_families

from sidecar import http

TIMEOUT = 15
TRIED = "alertmanager_notification_requests_total"
FAILED = "alertmanager_notification_requests_failed_total"
# Alertmanager has it with --enable-feature=receiver-name-in-metrics, and our receiver for test messages is called so.
NAMED, CANARY = "receiver_name", "canary"
# The dead-man's switch is called through this one each minute.
SHARED = ("webhook",)


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
        with http.outside_session() as client:
            answer = client.get(self._url, headers=self._headers, timeout=TIMEOUT)
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
        # imaplib would show the password to any server, whoever signed its certificate.
        context = ssl.create_default_context()
        with imaplib.IMAP4_SSL(self._host, self._port, ssl_context=context, timeout=TIMEOUT) as mail:
            mail.login(self._user, self._password)
            mail.select(self._folder, readonly=True)
            _, answer = mail.search(None, "TEXT", f'"{nonce}"')
        return bool(answer and answer[0])


class Accepted:
    """Alertmanager's word that the provider took what it was given since the message was sent.

    Args:
        integration: Alertmanager's name of it.
        read: fetches Alertmanager's metrics.
    """

    kind = "accepted"

    def __init__(self, integration: str, read: Callable[[], str]) -> None:
        self._integration = integration
        self._read = read
        self._before: float | None = None

    def begin(self) -> None:
        self._before = None
        self._before = self._taken()

    def found(self, nonce: str) -> bool:  # noqa: ARG002 - counters know no message
        # Two counters are read, which a call that just fails raises one after the other: it must hold twice.
        before = self._before
        return before is not None and all(self._taken() > before for _ in range(2))

    def _taken(self) -> float:
        """Calls that the provider answered well: those tried without those that failed, both counted afterwards."""
        samples = [
            sample
            for family in text_string_to_metric_families(_relevant(self._read()))
            for sample in family.samples
            if sample.labels.get("integration") == self._integration
        ]
        named = [sample for sample in samples if NAMED in sample.labels]
        if not named and self._integration in SHARED:
            raise OSError(f"{self._integration} has other receivers, and Alertmanager does not name them")
        counted = [sample for sample in named if sample.labels[NAMED] == CANARY] if named else samples
        return sum(sample.value if sample.name == TRIED else -sample.value for sample in counted)


def _relevant(text: str) -> str:
    return "\n".join(re.findall(rf"(?m)^(?:{TRIED}|{FAILED})\{{.*$", text)) + "\n"
