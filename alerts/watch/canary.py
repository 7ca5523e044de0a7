"""The test message: sent on a schedule, looked for at each receiver's other end."""

import logging
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta

from alerts.alertmanager import Alertmanager
from alerts.watch.evidence import Evidence
from sidecar.logs import fields

log = logging.getLogger(__name__)

NAME = "AlertingCanary"
# Long enough for Alertmanager to tell everyone, then it resolves.
LASTS = timedelta(minutes=2)
TEXT = {
    "summary": "test message {nonce}, nothing is wrong",
    "description": "Sent on a schedule to prove that this channel delivers.",
    "runbook_url": "https://github.com/posthub/ops/blob/main/docs/alerts.md#is-the-way-to-people-open",
    "dashboard_url": "",
}


@dataclass
class Arrival:
    """What is known about one receiver.

    Args:
        at: when the last test message was found there, 0 never.
        seconds: how long it took.
        missing_since: when the first one was sent that was not found, 0 none.
    """

    at: float = 0.0
    seconds: float = 0.0
    missing_since: float = 0.0


class Canary:
    """Sends test messages and follows them.

    Args:
        evidence: by receiver.
        patience: seconds after which a message counts as missing.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        alertmanager: Alertmanager,
        evidence: Mapping[str, Evidence],
        *,
        patience: float,
        clock: Callable[[], float],
    ) -> None:
        self._alertmanager = alertmanager
        self._evidence = dict(evidence)
        self._patience = patience
        self._clock = clock
        self._nonce = ""
        self._awaited: set[str] = set()
        self.sent = 0.0
        self.arrivals = {receiver: Arrival() for receiver in self._evidence}

    @property
    def kinds(self) -> dict[str, str]:
        """Kind of evidence by receiver."""
        return {receiver: evidence.kind for receiver, evidence in self._evidence.items()}

    def send(self) -> None:
        """Send a new message. Raises OpsError when Alertmanager does not take it."""
        self._give_up()
        for receiver, evidence in self._evidence.items():
            self._try(receiver, evidence.begin)
        self._nonce, self.sent = secrets.token_hex(6), self._clock()
        self._awaited = set(self._evidence)
        labels = {"alertname": NAME, "severity": "info", "component": "monitoring", "nonce": self._nonce}
        texts = {name: text.format(nonce=self._nonce) for name, text in TEXT.items()}
        self._alertmanager.post_alert(labels, texts, lasts=LASTS)
        log.info("test message sent %s", fields(nonce=self._nonce, receivers=",".join(self._evidence)))

    def look(self) -> None:
        """Look for the message wherever it has not been found yet."""
        for receiver in sorted(self._awaited):
            if self._try(receiver, lambda found=self._evidence[receiver].found: found(self._nonce)):  # type: ignore[misc]
                self._note(receiver)
        if self._clock() - self.sent > self._patience:
            self._give_up()

    def _note(self, receiver: str) -> None:
        self._awaited.discard(receiver)
        now = self._clock()
        self.arrivals[receiver] = Arrival(at=now, seconds=now - self.sent)
        log.info("test message arrived %s", fields(receiver=receiver, seconds=round(now - self.sent, 1)))

    def _give_up(self) -> None:
        for receiver in self._awaited:
            arrival = self.arrivals[receiver]
            if not arrival.missing_since:
                arrival.missing_since = self.sent
                log.warning("test message did not arrive %s", fields(receiver=receiver, nonce=self._nonce))
        self._awaited = set()

    def _try(self, receiver: str, ask: Callable[[], object]) -> object:
        try:
            return ask()
        # One receiver's trouble, of whatever kind, must not stop the watch over the others; addresses may hold
        # secrets, so only the kind of error is told.
        except Exception as error:
            log.warning("cannot look %s", fields(receiver=receiver, error=type(error).__name__))
            return None
