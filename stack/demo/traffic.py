"""Simulated customers: real requests to the app's HTTP API, at a bounded rate."""

import itertools
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Self

import requests

from sidecar import OpsError
from sidecar.http import session

TOPICS = ("spring menu", "new opening hours", "behind the scenes", "customer story", "weekend sale")
# Rounds per second and customer, of a few requests each: every queue has tasks, and the machine remains usable.
ROUNDS_PER_SECOND = 0.25


@dataclass(frozen=True)
class Customer:
    """An account of the app and its channel."""

    username: str
    token: str
    channel: str


class Traffic:
    """Every customer creates, publishes and schedules posts and asks for captions, until stopped."""

    def __init__(self, api: str, customers: Sequence[Customer]) -> None:
        self.customers = customers
        self._api = f"{api}/api/v1"
        self._counts: Counter[int] = Counter()
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._began = 0.0
        self._threads = [
            threading.Thread(
                target=self._work, args=[customer], name=f"traffic-{customer.username}", daemon=True
            )
            for customer in customers
        ]

    @property
    def responses(self) -> dict[str, int]:
        """Responses so far by class of status: ``{"2xx": 120}``; 0xx counts requests without a response."""
        with self._lock:
            classes: Counter[str] = Counter()
            for status, count in self._counts.items():
                classes[f"{status // 100}xx"] += count
            return dict(classes)

    @property
    def failures(self) -> int:
        """Requests so far that were refused, failed or got no response."""
        return sum(count for kind, count in self.responses.items() if kind not in ("2xx", "3xx"))

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    def __enter__(self) -> Self:
        self._began = time.monotonic()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _work(self, customer: Customer) -> None:
        with session() as client:
            client.headers["Authorization"] = f"Token {customer.token}"
            for number in itertools.count():
                self._round(client, customer, number)
                if self._stopping.wait(1 / ROUNDS_PER_SECOND):
                    return

    def _round(self, client: requests.Session, customer: Customer, number: int) -> None:
        topic = TOPICS[number % len(TOPICS)]
        now = self._create(client, customer, f"{topic}: publish now, number {number}")
        if now:
            self._post(client, f"posts/{now}/publish/", {})
        later = self._create(client, customer, f"{topic}: publish soon, number {number}")
        if later:
            due = datetime.now(UTC) + timedelta(seconds=1)
            self._post(client, f"posts/{later}/schedule/", {"scheduled_at": due.isoformat()})
        self._post(client, "ai/captions/", {"prompt": f"A caption about our {topic}"})
        self._request(client, "GET", "posts/?status=published", None)

    def _create(self, client: requests.Session, customer: Customer, text: str) -> str | None:
        created = self._post(client, "posts/", {"channel": customer.channel, "text": text})
        return str(created["id"]) if created else None

    def _post(self, client: requests.Session, path: str, body: dict[str, Any]) -> dict[str, Any] | None:
        return self._request(client, "POST", path, body)

    def _request(
        self, client: requests.Session, method: str, path: str, body: dict[str, Any] | None
    ) -> dict[str, Any] | None:
        try:
            answer = client.request(method, f"{self._api}/{path}", json=body, timeout=30)
            found: dict[str, Any] | None = answer.json() if answer.ok else None
            status = answer.status_code
        except requests.RequestException:
            found, status = None, 0
        with self._lock:
            self._counts[status] += 1
        return found


def customers_of(document: dict[str, Any]) -> list[Customer]:
    """The accounts that ``manage.py seed_demo --json`` printed. Raises OpsError when there are none."""
    found = [Customer(user["username"], user["token"], user["channel"]) for user in document["users"]]
    if not found:
        raise OpsError("seed_demo created no accounts", hint="read the log of manage.py")
    return found
