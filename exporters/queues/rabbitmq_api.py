"""Queues from RabbitMQ's management API: their names, unacknowledged messages, and the age of the oldest message."""

import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import requests

from exporters.broker import Broker
from exporters.queues.model import Queue
from sidecar.errors import OpsError, UsageError
from sidecar.http import session

ANSWER_SECONDS = 10.0
PAGE = 500
COLUMNS = "name,exclusive,messages_ready,messages_unacknowledged,consumers,head_message_timestamp"
# Queues that do not carry tasks: event receivers, remote control and its replies, broadcasts, native delayed delivery.
INTERNAL_STARTS = ("celeryev.", "bcast.", "celery_delayed_", "amq.")
INTERNAL_ENDS = (".pidbox",)
HINT = "check CELERY_EXPORTER_RABBITMQ_API_URL and that its user has the tag monitoring"


class RabbitMqApi:
    """The queues of one virtual host.

    Args:
        url: the address of the API with its user, for example ``http://monitor:word@rabbitmq:15672``.
        vhost: the virtual host.
        most: maximum number of queues that are read.
        clock: epoch seconds.
    """

    def __init__(self, url: str, vhost: str, *, most: int, clock: Callable[[], float] = time.time) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(
                "CELERY_EXPORTER_RABBITMQ_API_URL is not a valid URL",
                hint="for example http://monitor:password@rabbitmq:15672",
            )
        host = parts.netloc.rpartition("@")[2]
        self._base = f"{parts.scheme}://{host}{parts.path.rstrip('/')}/api/queues/{quote(vhost, safe='')}"
        self._auth = (unquote(parts.username or "guest"), unquote(parts.password or "guest"))
        self._most = most
        self._clock = clock
        self._session = session()

    def queues(self) -> dict[str, Queue]:
        """Every queue of the application, by name.

        Raises:
            OpsError: the API does not answer, or refuses the user.
        """
        found: dict[str, Queue] = {}
        page, pages = 1, 1
        while page <= pages and len(found) < self._most:
            answer = self._page(page)
            pages = int(answer.get("page_count", 1))
            for item in answer.get("items", ()):
                if not _is_internal(item):
                    found[str(item["name"])] = self._queue(item)
            page += 1
        return found

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def _page(self, page: int) -> Mapping[str, Any]:
        query = {"page": str(page), "page_size": str(PAGE), "columns": COLUMNS}
        try:
            answer = self._session.get(self._base, params=query, auth=self._auth, timeout=ANSWER_SECONDS)
            answer.raise_for_status()
            body = answer.json()
        except (requests.RequestException, ValueError) as error:
            status = getattr(getattr(error, "response", None), "status_code", None)
            reason = f"status {status}" if status else type(error).__name__
            raise OpsError(f"RabbitMQ's management API does not answer ({reason})", hint=HINT) from None
        if not isinstance(body, dict):
            raise OpsError("RabbitMQ's management API sent no list of queues", hint=HINT)
        return body

    def _queue(self, item: Mapping[str, Any]) -> Queue:
        length = _count(item.get("messages_ready"))
        oldest = item.get("head_message_timestamp")
        age = max(0.0, self._clock() - float(oldest)) if isinstance(oldest, int | float) and oldest else None
        return Queue(
            length=length or 0,
            unacked=_count(item.get("messages_unacknowledged")),
            oldest_age=0.0 if length == 0 else age,
            consumers=_count(item.get("consumers")),
        )


def vhost_of(broker: Broker) -> str:
    """The virtual host of an AMQP URL."""
    path = urlsplit(broker.url.partition(";")[0]).path
    return unquote(path[1:]) or "/"


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) else None


def _is_internal(item: Mapping[str, Any]) -> bool:
    name = str(item.get("name", ""))
    return bool(item.get("exclusive")) or name.startswith(INTERNAL_STARTS) or name.endswith(INTERNAL_ENDS)
