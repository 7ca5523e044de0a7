"""Customers of a deployed PostHub: requests through its edge and posts to a receiver, each accounted for."""

import http.client
import json
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

REQUESTS_PER_SECOND = 20.0
# Each round is a health page, a new post, its publication and a health page: a quarter of the requests is a task.
ROUND = 4
# Run by `manage.py shell` in a container of the app: accounts with a channel each. A line of JSON is the result.
ACCOUNTS = """
import json
from accounts.models import User
from accounts.tokens import issue
from posts.models import Channel
found = []
for number in range({number}):
    user, _ = User.objects.get_or_create(username=f"traffic-{{number}}", defaults={{"email": f"t{{number}}@example.com"}})
    channel, _ = Channel.objects.update_or_create(
        owner=user, name="receiver", defaults={{"publisher": "webhook", "webhook_url": "{url}"}})
    found.append({{"token": issue(user, "traffic")[1], "channel": str(channel.pk)}})
print("ACCOUNTS " + json.dumps(found))
"""


def accounts(printed: str) -> list[dict[str, str]]:
    """What ``ACCOUNTS`` printed."""
    line = next(line for line in printed.splitlines() if line.startswith("ACCOUNTS "))
    found: list[dict[str, str]] = json.loads(line.removeprefix("ACCOUNTS "))
    return found


class Receiver:
    """A customer's server: counts how often each delivery arrived.

    Args:
        seconds: it answers a delivery after this time.
    """

    def __init__(self, host: str, seconds: float = 0.0) -> None:
        self.arrived: Counter[str] = Counter()
        lock = threading.Lock()
        arrived = self.arrived

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))))
                with lock:
                    arrived[str(body["id"])] += 1
                time.sleep(seconds)
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer((host, 0), Handler)
        self.url = f"http://{host}:{self._server.server_address[1]}/"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Customers:
    """A steady rate of requests, until stopped. Every request has its own connection, as a new visitor has."""

    def __init__(
        self,
        connect: Callable[[], http.client.HTTPConnection],
        host: str,
        signed_in: Sequence[dict[str, str]],
    ) -> None:
        self._connect, self._host = connect, host
        self._signed_in = signed_in
        self.answers: Counter[str] = Counter()
        self.failures: list[str] = []
        self.accepted: set[str] = set()
        self.slowest = 0.0
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._work, args=[account, number], daemon=True)
            for number, account in enumerate(signed_in)
        ]

    def __enter__(self) -> Self:
        self.began = time.monotonic()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()
        self.seconds = time.monotonic() - self.began

    def _work(self, account: dict[str, str], number: int) -> None:
        pause = ROUND * len(self._signed_in) / REQUESTS_PER_SECOND
        due = time.monotonic() + pause * number / len(self._signed_in)
        while not self._stopping.wait(max(0.0, due - time.monotonic())):
            due += pause
            self._request("GET", "/health/", "")
            made = self._request(
                "POST", "/api/v1/posts/", account["token"], {"channel": account["channel"], "text": "traffic"}
            )
            if made and self._request("POST", f"/api/v1/posts/{made['id']}/publish/", account["token"], {}):
                with self._lock:
                    self.accepted.add(str(made["id"]))
            self._request("GET", "/health/", "")

    def _request(self, method: str, path: str, token: str, body: Any = None) -> dict[str, Any] | None:
        began = time.monotonic()
        headers = {"Host": self._host, "Content-Type": "application/json"}
        if token:
            headers["Authorization"] = f"Token {token}"
        try:
            connection = self._connect()
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            text, status = answer.read(), str(answer.status)
            connection.close()
        except (OSError, http.client.HTTPException) as error:
            text, status = b"", type(error).__name__
        took = time.monotonic() - began
        with self._lock:
            self.answers[status] += 1
            self.slowest = max(self.slowest, took)
            if not status.startswith("2"):
                self.failures.append(
                    f"{time.strftime('%H:%M:%S')} {method} {path.split('/')[-2]} {status} {took:.1f} s"
                )
        return json.loads(text) if status.startswith("2") and text else None


def over_tls(address: str, host: str, port: int = 443) -> Callable[[], http.client.HTTPConnection]:
    """Connections to an edge that signs its own certificates and whose name no DNS knows."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE

    def connect() -> http.client.HTTPConnection:
        connection = http.client.HTTPSConnection(host, port, timeout=30, context=context)
        plain = socket.create_connection((address, port), 30)
        connection.sock = context.wrap_socket(plain, server_hostname=host)
        return connection

    return connect


@dataclass(frozen=True)
class Outcome:
    """What became of the customers' requests and posts; as text, a line of figures.

    Attributes:
        missing: accepted posts that did not arrive.
        twice: posts that arrived more than once.
    """

    customers: Customers
    missing: set[str]
    twice: list[str]

    def __str__(self) -> str:
        seconds, accepted = self.customers.seconds, len(self.customers.accepted)
        asked = sum(self.customers.answers.values())
        return (
            f"{asked} requests ({asked / seconds:.1f}/s, slowest {self.customers.slowest:.1f} s), "
            f"{len(self.customers.failures)} failed; {accepted} posts ({accepted / seconds:.1f}/s), "
            f"{len(self.missing)} lost, {len(self.twice)} twice"
        )


def outcome(customers: Customers, receiver: Receiver, seconds: float) -> Outcome:
    """Wait for the accepted posts, for at most this time, and account for everything."""
    missing = _undelivered(receiver, customers.accepted, seconds)
    return Outcome(customers, missing, [post for post, times in receiver.arrived.items() if times > 1])


def _undelivered(receiver: Receiver, accepted: set[str], seconds: float) -> set[str]:
    """The accepted posts that have not arrived after this time."""
    until = time.monotonic() + seconds
    while (missing := accepted - set(receiver.arrived)) and time.monotonic() < until:
        time.sleep(1)
    return missing
