"""The test message: sent on a schedule, looked for at each receiver's other end."""

import logging
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

from alerts.alertmanager import Alertmanager
from alerts.watch.evidence import Evidence
from sidecar.logs import fields

log = logging.getLogger(__name__)

Answer = TypeVar("Answer")

NAME = "AlertingCanary"
# Long enough for Alertmanager to tell everyone, then it resolves.
LASTS = timedelta(minutes=2)
# A slow channel may still deliver an older message when the next ones are under way.
MOST_LOOKED_FOR = 4
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
        at: when a test message was last found there, 0 never.
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
        known: what :meth:`state` said before a restart.
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
        # Nonce and time of the messages that each receiver has not shown yet, oldest first.
        self._awaited: dict[str, list[tuple[str, float]]] = {}
        known = known or {}
        arrivals = known.get("arrivals", {})
        self.arrivals = {receiver: Arrival(**arrivals.get(receiver, {})) for receiver in self._evidence}
        # Counters and nonces died with the process, so what was on its way then has to be sent again.
        self.sent = 0.0 if known.get("awaited") else float(known.get("sent", 0.0))

    @property
    def kinds(self) -> dict[str, str]:
        """Kind of evidence by receiver."""
        return {receiver: evidence.kind for receiver, evidence in self._evidence.items()}

    @property
    def is_fresh(self) -> bool:
        """Whether a message may still be on its usual way."""
        return bool(self._awaited) and self._clock() - self.sent <= self._patience

    @property
    def is_missing(self) -> bool:
        """Whether a receiver's message did not arrive."""
        return any(arrival.missing_since for arrival in self.arrivals.values())

    def state(self) -> dict[str, Any]:
        """What must outlive a restart."""
        arrivals = {receiver: asdict(arrival) for receiver, arrival in self.arrivals.items()}
        return {"sent": self.sent, "awaited": sorted(self._awaited), "arrivals": arrivals}

    def send(self) -> None:
        """Send a new message. Raises OpsError when Alertmanager does not take it."""
        self._note_missing(self._awaited)
        for receiver, evidence in self._evidence.items():
            self._try(receiver, evidence.begin)
        nonce = secrets.token_hex(6)
        labels = {"alertname": NAME, "severity": "info", "component": "monitoring", "nonce": nonce}
        texts = {name: text.format(nonce=nonce) for name, text in TEXT.items()}
        self._alertmanager.post_alert(labels, texts, lasts=LASTS)
        self.sent = self._clock()
        for receiver in self._evidence:
            awaited = [*self._awaited.get(receiver, []), (nonce, self.sent)]
            self._awaited[receiver] = awaited[-MOST_LOOKED_FOR:]
        log.info("test message sent %s", fields(nonce=nonce, receivers=",".join(self._evidence)))

    def look(self) -> None:
        """Look for the messages wherever none has been found yet."""
        for receiver in sorted(self._awaited):
            sent = self._try(receiver, partial(self._found, receiver))
            if sent is not None:
                self._note(receiver, sent)
        if self._clock() - self.sent > self._patience:
            self._note_missing(self._awaited)

    def _found(self, receiver: str) -> float | None:
        """When the newest message was sent that is there."""
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
        # One receiver's trouble, of whatever kind, must not stop the watch over the others; addresses may hold
        # secrets, so only the kind of error is told.
        except Exception as error:
            log.warning("cannot look %s", fields(receiver=receiver, error=type(error).__name__))
            return None
