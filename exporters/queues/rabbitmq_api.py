"""Queues from RabbitMQ's management API: their names, unacknowledged messages, and the age of the oldest message."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import requests
from requests.auth import HTTPBasicAuth

from exporters.broker import Broker
from exporters.queues.model import OF_ONE_PROCESS, Queue
from sidecar.errors import OpsError, UsageError
from sidecar.http import session

ANSWER_SECONDS = 10.0
# RabbitMQ's own default, for the password too.
USER = "guest"
PAGE = 500
COLUMNS = (
    "name,exclusive,auto_delete,arguments,type,state,"
    "messages_ready,messages_unacknowledged,consumers,head_message_timestamp"
)
# States of queues whose node or leader is gone: their counts are old, or 0.
UNAVAILABLE = frozenset({"down", "minority", "stopped", "crashed", "terminated"})
# Queues that do not carry tasks: also those of remote control, its replies, and native delayed delivery.
INTERNAL_STARTS = (*OF_ONE_PROCESS, "celery_delayed_", "amq.")
INTERNAL_ENDS = (".pidbox",)
HINT = "check CELERY_EXPORTER_RABBITMQ_API_URL and that its user has the tag monitoring"


@dataclass
class Listing:
    """What the API says about the application's queues.

    Attributes:
        queues: by name.
        blocked: why the server accepts no messages; empty if it does.
        uncounted: queues without statistics: they are new, or the server collects none.
        refused: queues that are not available, with their state.
        unread: queues on pages that were not read because there are too many.
    """

    queues: dict[str, Queue] = field(default_factory=dict)
    blocked: str = ""
    uncounted: set[str] = field(default_factory=set)
    refused: list[str] = field(default_factory=list)
    unread: int = 0


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
        self._base = f"{parts.scheme}://{host}{parts.path.rstrip('/')}/api"
        self._queues = f"{self._base}/queues/{quote(vhost, safe='')}"
        # As bytes: requests encodes text as Latin-1, which does not have every letter.
        self._auth = HTTPBasicAuth(_bytes(parts.username), _bytes(parts.password))
        self._most = most
        self._clock = clock
        self._session = session()

    def queues(self) -> Listing:
        """Every queue of the application.

        Raises:
            OpsError: the API does not answer, or refuses the user.
        """
        listing = Listing(blocked=self._alarms())
        page, pages = 1, 1
        seen, total = 0, 0
        while page <= pages and len(listing.queues) + len(listing.uncounted) < self._most:
            answer = self._page(page)
            pages, total = int(answer.get("page_count", 1)), int(answer.get("filtered_count", 0))
            items = answer.get("items", ())
            seen += len(items)
            for item in items:
                if not _is_internal(item):
                    self._add(item, listing)
            page += 1
        listing.unread = max(0, total - seen)
        return listing

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def _get(self, url: str, query: Mapping[str, str]) -> requests.Response:
        return self._session.get(url, params=query, auth=self._auth, timeout=ANSWER_SECONDS)

    def _alarms(self) -> str:
        """Why the server accepts no messages; empty if it does, or does not say."""
        try:
            answer = self._get(f"{self._base}/health/checks/alarms", {})
            if answer.status_code != HTTPStatus.SERVICE_UNAVAILABLE:
                return ""
            alarms = answer.json()["alarms"]
            found = sorted(f"{alarm['resource']} alarm of {alarm['node']}" for alarm in alarms)
        except (requests.RequestException, ValueError, KeyError, TypeError):
            return ""
        return f"RabbitMQ accepts no messages: {', '.join(found)}" if found else ""

    def _page(self, page: int) -> Mapping[str, Any]:
        query = {"page": str(page), "page_size": str(PAGE), "columns": COLUMNS}
        try:
            answer = self._get(self._queues, query)
            answer.raise_for_status()
            body = answer.json()
        except (requests.RequestException, ValueError) as error:
            status = getattr(getattr(error, "response", None), "status_code", None)
            reason = f"status {status}" if status else type(error).__name__
            raise OpsError(f"RabbitMQ's management API does not answer ({reason})", hint=HINT) from None
        if not isinstance(body, dict):
            raise OpsError("RabbitMQ's management API sent no list of queues", hint=HINT)
        return body

    def _add(self, item: Mapping[str, Any], listing: Listing) -> None:
        name, state = str(item["name"]), item.get("state")
        length = _count(item.get("messages_ready"))
        if state in UNAVAILABLE:
            listing.refused.append(f"queue {name}: its state is {state}")
        elif length is None:
            listing.uncounted.add(name)
        else:
            listing.queues[name] = self._queue(item, length)

    def _queue(self, item: Mapping[str, Any], length: int) -> Queue:
        oldest = item.get("head_message_timestamp")
        age = max(0.0, self._clock() - float(oldest)) if isinstance(oldest, int | float) and oldest else None
        return Queue(
            length=length,
            unacked=_count(item.get("messages_unacknowledged")),
            oldest_age=0.0 if length == 0 else age,
            consumers=_count(item.get("consumers")),
        )


def vhost_of(broker: Broker) -> str:
    """The virtual host of an AMQP URL."""
    path = urlsplit(broker.url.partition(";")[0]).path
    return unquote(path[1:]) or "/"


def _bytes(escaped: str | None) -> bytes:
    return unquote(escaped or USER).encode()


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) else None


def _is_internal(item: Mapping[str, Any]) -> bool:
    name = str(item.get("name", ""))
    # An event receiver's queue under another event_queue_prefix: it disappears with its consumer, or without one.
    is_receiver = item.get("auto_delete") and "x-expires" in (item.get("arguments") or {})
    # Reading a stream removes nothing from it, so the number of its messages is not a backlog.
    is_other = bool(item.get("exclusive")) or item.get("type") == "stream" or bool(is_receiver)
    return is_other or name.startswith(INTERNAL_STARTS) or name.endswith(INTERNAL_ENDS)
