"""Proof of delivery: a test message is read back at the receiver, or its provider accepted it.

Reading back is proof. Where that is impossible (a Telegram bot cannot read its own messages), the weaker evidence is
that Alertmanager counted a request to that integration that did not fail.
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
# Label that --enable-feature=receiver-name-in-metrics adds, and the name of the receiver of test messages.
NAMED, CANARY = "receiver_name", "canary"
# The pings of the dead man's switch also go through this integration.
SHARED = ("webhook",)


class Evidence(Protocol):
    """A way to check whether a message arrived."""

    kind: str

    def begin(self) -> None:
        """Record the state before the message is sent."""

    def found(self, nonce: str) -> bool:
        """Whether the message arrived.

        Raises:
            OSError, requests.RequestException, imaplib.IMAP4.error: it cannot be checked.
        """


class Page:
    """A web page that lists the receiver's messages: Slack's history, PagerDuty's incidents, an inbox."""

    kind = "read-back"

    def __init__(self, url: str, authorization: str | None = None) -> None:
        self._url = url
        self._headers = {"Authorization": authorization} if authorization else {}

    def begin(self) -> None:
        """Do nothing: the nonce is new."""

    def found(self, nonce: str) -> bool:
        with http.outside_session() as client:
            answer = client.get(self._url, headers=self._headers, timeout=TIMEOUT)
        answer.raise_for_status()
        return nonce in answer.text


class Mailbox:
    """A mailbox that is read over IMAP with TLS."""

    kind = "read-back"

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port or 993
        self._user, self._password = unquote(parts.username or ""), unquote(parts.password or "")
        self._folder = parts.path.strip("/") or "INBOX"

    def begin(self) -> None:
        """Do nothing: the nonce is new."""

    def found(self, nonce: str) -> bool:
        # imaplib does not verify certificates by default, and would send the password to any server.
        context = ssl.create_default_context()
        with imaplib.IMAP4_SSL(self._host, self._port, ssl_context=context, timeout=TIMEOUT) as mail:
            mail.login(self._user, self._password)
            mail.select(self._folder, readonly=True)
            _, answer = mail.search(None, "TEXT", f'"{nonce}"')
        return bool(answer and answer[0])


class Accepted:
    """Alertmanager's request counters: the provider accepted a request after the message was sent.

    Args:
        integration: its name in Alertmanager's metrics.
        read: returns Alertmanager's metrics page.
    """

    kind = "accepted"

    def __init__(self, integration: str, read: Callable[[], str]) -> None:
        self._integration = integration
        self._read = read
        self._before: float | None = None

    def begin(self) -> None:
        self._before = None
        self._before = self._accepted()

    def found(self, nonce: str) -> bool:  # noqa: ARG002 - counters do not identify messages
        # A failing request increments its two counters one after the other, so the result must be the same twice.
        before = self._before
        return before is not None and all(self._accepted() > before for _ in range(2))

    def _accepted(self) -> float:
        """Successful requests: attempts minus failures."""
        samples = [
            sample
            for family in text_string_to_metric_families(_relevant(self._read()))
            for sample in family.samples
            if sample.labels.get("integration") == self._integration
        ]
        named = [sample for sample in samples if NAMED in sample.labels]
        if not named and self._integration in SHARED:
            raise OSError(f"{self._integration} has other receivers, and the metrics do not name receivers")
        counted = [sample for sample in named if sample.labels[NAMED] == CANARY] if named else samples
        return sum(sample.value if sample.name == TRIED else -sample.value for sample in counted)


def _relevant(text: str) -> str:
    return "\n".join(re.findall(rf"(?m)^(?:{TRIED}|{FAILED})\{{.*$", text)) + "\n"
