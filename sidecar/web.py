"""A small threaded web server for metrics, health, status pages and webhooks: GET, HEAD and POST, gzip where accepted."""

import gzip
import logging
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from sidecar.errors import OpsError

log = logging.getLogger(__name__)

TEXT = "text/plain; charset=utf-8"
HTML = "text/html; charset=utf-8"
# A client that sends nothing must not occupy a thread forever.
IDLE_SECONDS = 15.0
SMALLEST_GZIP = 1024
# Alertmanager's webhooks have a few kilobytes; a far larger body is not one of them.
LARGEST_BODY = 4 * 1024 * 1024


@dataclass(frozen=True)
class Request:
    """One request; header names are lower case, ``query`` has the last value of each parameter.

    ``body`` is the body of a POST. It is empty for GET and HEAD, and while the guard runs.
    """

    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes = b""


@dataclass(frozen=True)
class Response:
    """One response. A body that is already compressed has a ``Content-Encoding`` header and is sent unchanged."""

    body: bytes
    content_type: str = TEXT
    status: int = HTTPStatus.OK
    headers: Mapping[str, str] = field(default_factory=dict)


Route = Callable[[Request], Response]
# Called for every request before routing and before a body is read; None allows it.
Guard = Callable[[Request], Response | None]
# By method, then by path.
Routes = Mapping[str, Mapping[str, Route]]


class WebServer:
    """Serves routes, with one thread for each request.

    Args:
        host: address to bind.
        port: port to bind; 0 takes a free one, see :attr:`port`.
        routes: path → handler of GET and HEAD. A handler that raises is logged, and the response is 500. A path is exact; ``/*`` at its end matches any single name.
        posts: exact path → handler of POST. A body over 4 MiB, or without a length, is refused without being read.
        guard: may refuse a request before its route is looked up.
        tls: serve HTTPS with this context.

    Raises:
        OpsError: the port cannot be bound.
    """

    def __init__(
        self,
        host: str,
        port: int,
        routes: Mapping[str, Route],
        *,
        posts: Mapping[str, Route] | None = None,
        guard: Guard | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._server = _bind(host, port, {"GET": dict(routes), "POST": dict(posts or {})})
        self._server.guard, self._server.tls = guard, tls
        self._thread = threading.Thread(target=self._server.serve_forever, name="web", daemon=True)

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def running(self) -> bool:
        """Whether it accepts requests."""
        return self._thread.is_alive()

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

    def __init__(self, host: str, port: int, routes: Routes) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.routes = routes
        self.guard: Guard | None = None
        self.tls: ssl.SSLContext | None = None
        super().__init__((host, port), _Handler)

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        if self.tls is not None:
            # The handshake is left to the connection's own thread, so that a silent client delays no one else.
            connection = self.tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, address

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - the base class's names
        # A client that disconnects or does not use TLS is not worth a traceback.
        log.debug("connection of %s failed: %s", client_address, sys.exc_info()[1])


def _bind(host: str, port: int, routes: Routes) -> _Server:
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
    # Headers and body are sent together; sent separately, the body may wait 40 ms for the client's acknowledgement.
    wbufsize = -1
    disable_nagle_algorithm = True
    server: _Server

    def setup(self) -> None:
        super().setup()
        if isinstance(self.request, ssl.SSLSocket):
            self.request.do_handshake()

    def do_GET(self) -> None:
        self._send(self._respond("GET"))

    def do_HEAD(self) -> None:
        self._send(self._respond("GET"), with_body=False)

    def do_POST(self) -> None:
        self._send(self._respond("POST"))

    def _respond(self, method: str) -> Response:
        request = self._request()
        refused = self.server.guard(request) if self.server.guard else None
        found = refused or _route(self.server.routes, method, request.path)
        if isinstance(found, Response):
            return self._unread(found)
        if method != "POST":
            return self._unread(_handled(found, request))
        body = self._body()
        if isinstance(body, Response):
            return self._unread(body)
        return _handled(found, replace(request, body=body))

    def _unread(self, response: Response) -> Response:
        """Close the connection after this response if an unread body is left on it, which would be parsed as a request."""
        length, encoding = self.headers.get("Content-Length", "0"), self.headers.get("Transfer-Encoding")
        if self.command == "POST" or length != "0" or encoding:
            self.close_connection = True
        return response

    def _request(self) -> Request:
        url = urlsplit(self.path)
        query = {name: values[-1] for name, values in parse_qs(url.query).items()}
        return Request(url.path, query, {name.lower(): value for name, value in self.headers.items()})

    def _body(self) -> bytes | Response:
        """The body of a POST, or the reason why it is not read."""
        given = self.headers.get("Content-Length", "")
        if "Transfer-Encoding" in self.headers or not given.isascii() or not given.isdecimal():
            return Response(b"411 a Content-Length is needed\n", status=HTTPStatus.LENGTH_REQUIRED)
        if len(given) > 10 or int(given) > LARGEST_BODY:
            return Response(b"413 the body is too large\n", status=HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        body = self.rfile.read(int(given))
        if len(body) < int(given):
            return Response(b"400 the body is incomplete\n", status=HTTPStatus.BAD_REQUEST)
        return body

    def _send(self, found: Response, *, with_body: bool = True) -> None:
        response = _compressed(found, self.headers.get("Accept-Encoding", ""))
        headers = {"Content-Type": response.content_type, "Content-Length": str(len(response.body))}
        if self.close_connection:
            headers["Connection"] = "close"
        self.send_response(response.status)
        for name, value in {**headers, **response.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            self.wfile.write(response.body)

    def version_string(self) -> str:
        return "posthub-ops"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it
        log.debug(format, *args)


def _route(routes: Routes, method: str, path: str) -> Route | Response:
    """The handler of a request, or the response if there is none."""
    folder, _, name = path.rpartition("/")
    known_as = (path, f"{folder}/*") if name else (path,)
    for each in known_as:
        if each in routes[method]:
            return routes[method][each]
    allowed = [known for known in routes if any(each in routes[known] for each in known_as)]
    if allowed:
        text = f"405 {method} is not allowed here\n".encode()
        headers = {"Allow": ", ".join(allowed)}
        return Response(text, status=HTTPStatus.METHOD_NOT_ALLOWED, headers=headers)
    known = [*sorted(routes["GET"]), *(f"POST {path}" for path in sorted(routes["POST"]))]
    return Response(f"404 not found; these exist: {' '.join(known)}\n".encode(), status=HTTPStatus.NOT_FOUND)


def _handled(route: Route, request: Request) -> Response:
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
