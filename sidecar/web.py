"""A small threaded web server for metrics, health and status pages: GET and HEAD only, gzip where accepted."""

import gzip
import logging
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from sidecar.errors import OpsError

log = logging.getLogger(__name__)

TEXT = "text/plain; charset=utf-8"
HTML = "text/html; charset=utf-8"
# A client that sends nothing must not hold a thread for ever.
IDLE_SECONDS = 15.0
SMALLEST_GZIP = 1024


@dataclass(frozen=True)
class Request:
    """One request; header names are lower case, ``query`` has the last value of each parameter."""

    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Response:
    """One answer. A body that is already gzip says so in its ``Content-Encoding`` header and is sent as it is."""

    body: bytes
    content_type: str = TEXT
    status: int = HTTPStatus.OK
    headers: Mapping[str, str] = field(default_factory=dict)


Route = Callable[[Request], Response]
# Decides about every request before its route: None lets it pass.
Guard = Callable[[Request], Response | None]


class WebServer:
    """Serves routes on threads of its own.

    Args:
        host: address to bind.
        port: port to bind; 0 takes a free one, see :attr:`port`.
        routes: exact path → handler. A handler that raises answers 500 and is logged.
        guard: may refuse a request before its route is looked up.
        tls: speaks HTTPS with it.
    """

    def __init__(
        self,
        host: str,
        port: int,
        routes: Mapping[str, Route],
        *,
        guard: Guard | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._server = _bind(host, port, dict(routes))
        self._server.guard, self._server.tls = guard, tls
        self._thread = threading.Thread(target=self._server.serve_forever, name="web", daemon=True)

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def start(self) -> Self:
        self._thread.start()
        return self

    def stop(self) -> None:
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, host: str, port: int, routes: Mapping[str, Route]) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.routes = routes
        self.guard: Guard | None = None
        self.tls: ssl.SSLContext | None = None
        super().__init__((host, port), _Handler)

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        if self.tls is not None:
            # The handshake is left to the connection's own thread: a silent client must not hold up the others.
            connection = self.tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, address

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - the base class's names
        # Clients that go away or speak no TLS are no news.
        log.debug("connection of %s failed: %s", client_address, sys.exc_info()[1])


def _bind(host: str, port: int, routes: Mapping[str, Route]) -> _Server:
    try:
        return _Server(host, port, routes)
    except OSError as error:
        raise OpsError(
            f"cannot listen on {host}:{port}: {error.strerror or error}",
            hint="stop what uses the port, or choose another one",
        ) from None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = IDLE_SECONDS
    # Headers and body leave together: apart, the body may wait 40 ms for the client's acknowledgement.
    wbufsize = -1
    disable_nagle_algorithm = True
    server: _Server

    def setup(self) -> None:
        super().setup()
        if isinstance(self.request, ssl.SSLSocket):
            self.request.do_handshake()

    def do_GET(self) -> None:
        self._answer(send_body=True)

    def do_HEAD(self) -> None:
        self._answer(send_body=False)

    def _answer(self, *, send_body: bool) -> None:
        request = self._request()
        refused = self.server.guard(request) if self.server.guard else None
        found = refused or _respond(self.server.routes, request)
        response = _compressed(found, self.headers.get("Accept-Encoding", ""))
        headers = {"Content-Type": response.content_type, "Content-Length": str(len(response.body))}
        self.send_response(response.status)
        for name, value in {**headers, **response.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if send_body:
            self.wfile.write(response.body)

    def _request(self) -> Request:
        url = urlsplit(self.path)
        query = {name: values[-1] for name, values in parse_qs(url.query).items()}
        return Request(url.path, query, {name.lower(): value for name, value in self.headers.items()})

    def version_string(self) -> str:
        return "posthub-ops"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it
        log.debug(format, *args)


def _respond(routes: Mapping[str, Route], request: Request) -> Response:
    route = routes.get(request.path)
    if route is None:
        known = " ".join(sorted(routes))
        return Response(f"404 not found; there are: {known}\n".encode(), status=HTTPStatus.NOT_FOUND)
    try:
        return route(request)
    except Exception:
        log.exception("request failed path=%s", request.path)
        return Response(b"500 internal error; see the log\n", status=HTTPStatus.INTERNAL_SERVER_ERROR)


def _compressed(response: Response, accepted: str) -> Response:
    if "gzip" not in accepted or "Content-Encoding" in response.headers or len(response.body) < SMALLEST_GZIP:
        return response
    headers = {**response.headers, "Content-Encoding": "gzip", "Vary": "Accept-Encoding"}
    body = gzip.compress(response.body, compresslevel=1, mtime=0)
    return Response(body, response.content_type, response.status, headers)
