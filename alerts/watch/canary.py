"""Sends test messages on a schedule and checks that they arrive at each receiver."""

import logging
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

from alerts.alertmanager import Alertmanager
from alerts.watch.delivery import Evidence
from sidecar.logs import fields

log = logging.getLogger(__name__)

Answer = TypeVar("Answer")

NAME = "AlertingCanary"
# Long enough for Alertmanager to notify every receiver; then it resolves.
DURATION = timedelta(minutes=2)
# A slow channel may deliver an older message after newer ones were sent.
MAX_AWAITED = 4
TEXT = {
    "summary": "test message {nonce}, nothing is wrong",
    "description": "Sent on a schedule to check that this channel delivers.",
    "runbook_url": "https://github.com/posthub/ops/blob/main/docs/alerts.md#do-notifications-get-through",
    "dashboard_url": "",
}


@dataclass
class Arrival:
    """The last known arrival at one receiver.

    Args:
        at: Unix time at which a test message was last found; 0 = never.
        seconds: its delivery time.
        missing_since: Unix time at which the first missing message was sent; 0 = none is missing.
    """

    at: float = 0.0
    seconds: float = 0.0
    missing_since: float = 0.0


class Canary:
    """Sends test messages and tracks their delivery.

    Args:
        evidence: what proves a delivery, by receiver.
        patience: seconds after which a message counts as missing.
        clock: seconds since the epoch.
        known: result of :meth:`state` before a restart.
    """

    def __init__(
        self,
        alertmanager: Alertmanager,
        evidence: Mapping[str, Evidence],
        *,
        patience: float,
        clock: Callable[[], float],
        known: Mapping[str, Any] | None = None,
    ) -> None:
        self._alertmanager = alertmanager
        self._evidence = dict(evidence)
        self._patience = patience
        self._clock = clock
        # Nonce and send time of the messages not yet seen at each receiver, oldest first.
        self._awaited: dict[str, list[tuple[str, float]]] = {}
        known = known or {}
        arrivals = known.get("arrivals", {})
        self.arrivals = {receiver: Arrival(**arrivals.get(receiver, {})) for receiver in self._evidence}
        # Counters and nonces are lost on restart, so a message in transit is sent again.
        self.sent = 0.0 if known.get("awaited") else float(known.get("sent", 0.0))

    @property
    def kinds(self) -> dict[str, str]:
        """Kind of evidence by receiver."""
        return {receiver: evidence.kind for receiver, evidence in self._evidence.items()}

    @property
    def is_fresh(self) -> bool:
        """Whether a message is in transit and not yet late."""
        return bool(self._awaited) and self._clock() - self.sent <= self._patience

    @property
    def is_missing(self) -> bool:
        """Whether a message is missing at any receiver."""
        return any(arrival.missing_since for arrival in self.arrivals.values())

    def state(self) -> dict[str, Any]:
        """The state that must survive a restart."""
        arrivals = {receiver: asdict(arrival) for receiver, arrival in self.arrivals.items()}
        return {"sent": self.sent, "awaited": sorted(self._awaited), "arrivals": arrivals}

    def send(self) -> None:
        """Send a new message.

        Raises:
            OpsError: Alertmanager does not accept it.
        """
        self._note_missing(self._awaited)
        for receiver, evidence in self._evidence.items():
            self._try(receiver, evidence.begin)
        nonce = secrets.token_hex(6)
        labels = {"alertname": NAME, "severity": "info", "component": "monitoring", "nonce": nonce}
        texts = {name: text.format(nonce=nonce) for name, text in TEXT.items()}
        self._alertmanager.post_alert(labels, texts, duration=DURATION)
        self.sent = self._clock()
        for receiver in self._evidence:
            awaited = [*self._awaited.get(receiver, []), (nonce, self.sent)]
            self._awaited[receiver] = awaited[-MAX_AWAITED:]
        log.info("test message sent %s", fields(nonce=nonce, receivers=",".join(self._evidence)))

    def check(self) -> None:
        """Check every receiver that no message has reached yet."""
        for receiver in sorted(self._awaited):
            sent = self._try(receiver, partial(self._found, receiver))
            if sent is not None:
                self._note(receiver, sent)
        if self._clock() - self.sent > self._patience:
            self._note_missing(self._awaited)

    def _found(self, receiver: str) -> float | None:
        """The send time of the newest message that arrived."""
        evidence, newest_first = self._evidence[receiver], reversed(self._awaited[receiver])
        return next((sent for nonce, sent in newest_first if evidence.found(nonce)), None)

    def _note(self, receiver: str, sent: float) -> None:
        del self._awaited[receiver]
        now = self._clock()
        self.arrivals[receiver] = Arrival(at=now, seconds=now - sent)
        log.info("test message arrived %s", fields(receiver=receiver, seconds=round(now - sent, 1)))

    def _note_missing(self, receivers: Iterable[str]) -> None:
        for receiver in sorted(receivers):
            arrival = self.arrivals[receiver]
            if not arrival.missing_since:
                arrival.missing_since = self.sent
                log.warning("test message did not arrive %s", fields(receiver=receiver))

    def _try(self, receiver: str, ask: Callable[[], Answer]) -> Answer | None:
        try:
            return ask()
        # An error at one receiver must not stop the checks of the others. Addresses may contain secrets, so only
        # the type of the error is logged.
        except Exception as error:
            log.warning("cannot check receiver %s", fields(receiver=receiver, error=type(error).__name__))
            return None
