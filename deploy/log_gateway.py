#!/usr/bin/env python
"""Between vlagent and VictoriaLogs: unpacks what the Docker engine wraps, and measures what the store has.

vlagent reads the engine's files, in which each line of a container is a string in a JSON object. This takes that string
out again, so that the fields of structured lines (level, logger, request_id, task_id) become fields of the store, and
passes it on. It keeps nothing: vlagent sends again what was not stored. In Kubernetes, vlagent unpacks the lines itself,
and only the metrics are used. Usage: ``log_gateway.py``, with the variables LOG_STORE_URL, LOG_STORE_USER,
LOG_STORE_PASSWORD_FILE, LOG_SERVICE_FIELD and LOG_GATEWAY_PORT.
"""

import base64
import json
import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import zstandard
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily

SECONDS = 30.0
LONGEST = 64 * 1024 * 1024
# Prometheus may ask as often as it likes: the store is queried once in this time.
FRESH_SECONDS = 10.0
RECENT = "5m"
REGULAR = "6h"
# Beginnings of lines: Go, Python's interpreter, an uncaught exception, and PostgreSQL.
PANICS = r"^(panic: |fatal error: |Fatal Python error: |Traceback \\(most recent call last\\)|.*\\bPANIC:  )"
ERRORS = "level:in(ERROR,CRITICAL,FATAL,PANIC,error,critical,fatal,panic)"
# Names that programs use for the message. The store calls it _msg.
MESSAGES = ("message", "msg")


def unpack(line: bytes) -> dict[str, Any]:
    """The record of one line of a container, from one line of vlagent.

    Raises:
        ValueError: it is not a JSON object.
    """
    found = json.loads(line)
    if not isinstance(found, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004 - of vlagent's input, not of a call
    text = str(found.get("_msg", "")).rstrip("\n")
    record = {**structured(text), "_time": found.get("_time"), "stream": found.get("stream", "")}
    # The engine writes the container's name because of the option `tag`; without it, the file has the container's ID.
    record["service"] = found.get("attrs.tag") or PurePosixPath(str(found.get("file", ""))).parent.name[:12]
    return record


def structured(text: str) -> dict[str, Any]:
    """The fields of a line that is a JSON object; of any other line, the message alone."""
    try:
        fields = json.loads(text) if text.startswith("{") else None
    except ValueError:
        fields = None
    if not isinstance(fields, dict):
        return {"_msg": text}
    # The engine's time is used. Names with an underscore belong to the store.
    kept = {name: value for name, value in fields.items() if not name.startswith("_") and name != "time"}
    name = next((name for name in MESSAGES if isinstance(kept.get(name), str)), None)
    return {"_msg": kept.pop(name) if name else text, **kept}


def repacked(body: bytes) -> bytes:
    """The lines for the store. What is not from vlagent is kept as it is, as the message of a record."""
    lines = []
    for line in body.splitlines():
        if line.strip():
            try:
                record = unpack(line)
            except ValueError:
                record = {"_msg": line.decode(errors="replace"), "service": "unknown"}
            lines.append(json.dumps(record).encode())
    return b"\n".join(lines)


@dataclass(frozen=True)
class Store:
    """VictoriaLogs.

    Attributes:
        service: the field that names the container.
    """

    url: str
    user: str
    password: str
    service: str

    def insert(self, lines: bytes) -> None:
        """Store lines.

        Raises:
            OSError: they are not stored.
        """
        # The time of arrival counts for lines whose time the engine did not write.
        fields = {"_msg_field": "_msg", "_time_field": "_time", "_stream_fields": "service,stream"}
        self._send(f"/insert/jsonline?{urlencode(fields)}", lines, "application/stream+json")

    def stats(self, query: str) -> Iterator[tuple[Mapping[str, str], float]]:
        """The labels and the value of each row of a query that ends with the pipe ``stats``.

        Raises:
            OSError: the store does not answer.
        """
        body = urlencode({"query": query}).encode()
        answer = self._send("/select/logsql/stats_query", body, "application/x-www-form-urlencoded")
        for row in json.loads(answer)["data"]["result"]:
            yield row["metric"], float(row["value"][1])

    def _send(self, path: str, body: bytes, kind: str) -> bytes:
        login = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        headers = (
            {"Content-Type": kind, "Authorization": f"Basic {login}"} if self.user else {"Content-Type": kind}
        )
        with urlopen(Request(self.url + path, body, headers), timeout=SECONDS) as answer:
            return bytes(answer.read())


class Measures:
    """What the store knows, as metrics. A store that does not answer is an error, so that its target counts as down."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._read = -FRESH_SECONDS
        self._page = b""

    def page(self) -> bytes:
        """The metrics, in Prometheus' format.

        Raises:
            OSError: the store does not answer.
        """
        with self._lock:
            if time.monotonic() - self._read >= FRESH_SECONDS:
                self._page = generate_latest(_registry(self._families()))
                self._read = time.monotonic()
            return self._page

    def _families(self) -> Iterator[GaugeMetricFamily]:
        field = self._store.service
        yield self._family(
            "logs_recent_lines",
            f"Lines of the last {RECENT}",
            f"_time:{RECENT} * | stats by ({field}) count() n",
            {"service": field},
        )
        yield self._family(
            "logs_regular_lines",
            f"Lines of the last {REGULAR}",
            f"_time:{REGULAR} * | stats by ({field}) count() n",
            {"service": field},
        )
        yield self._family(
            "logs_last_line_timestamp_seconds",
            f"Time of the last line, of services that wrote one in the last {REGULAR}",
            f"_time:{REGULAR} * | stats by ({field}) max(_time) last | math (last / 1e9) as n | fields {field}, n",
            {"service": field},
        )
        yield self._family(
            "logs_recent_errors",
            f"Structured lines of the last {RECENT} with an error, by logger",
            f"_time:{RECENT} {ERRORS} | stats by ({field}, logger) count() n",
            {"service": field, "logger": "logger"},
        )
        yield self._family(
            "logs_recent_panics",
            f"Lines of the last {RECENT} of a program that ended by a panic or an exception",
            f'_time:{RECENT} _msg:~"{PANICS}" | stats by ({field}) count() n',
            {"service": field},
        )

    def _family(self, name: str, text: str, query: str, labels: Mapping[str, str]) -> GaugeMetricFamily:
        family = GaugeMetricFamily(name, text, labels=list(labels))
        for row, value in self._store.stats(query):
            family.add_metric([row.get(field, "") for field in labels.values()], value)
        return family


def _registry(families: Iterable[GaugeMetricFamily]) -> CollectorRegistry:
    found = list(families)

    class _Collected:
        def collect(self) -> Iterable[GaugeMetricFamily]:
            return found

    registry = CollectorRegistry()
    registry.register(_Collected())  # type: ignore[arg-type]  # collect() is enough
    return registry


class Handler(BaseHTTPRequestHandler):
    """Receives lines, and serves the metrics."""

    server: "Gateway"
    timeout = SECONDS

    def do_GET(self) -> None:
        if self.path == "/healthz":
            self._answer(HTTPStatus.OK, b"ok\n")
        elif self.path == "/metrics":
            self._measured()
        else:
            self._answer(HTTPStatus.NOT_FOUND, b"there is no such page\n")

    def do_POST(self) -> None:
        if self.path.partition("?")[0] != "/insert":
            self._answer(HTTPStatus.NOT_FOUND, b"there is no such page\n")
            return
        size = int(self.headers.get("Content-Length") or 0)
        if not 0 < size <= LONGEST:
            self._answer(HTTPStatus.BAD_REQUEST, b"the length of the body is missing or too large\n")
            return
        body = self.rfile.read(size)
        try:
            self.server.store.insert(repacked(self._plain(body)))
        except zstandard.ZstdError:
            self._answer(HTTPStatus.BAD_REQUEST, b"the body is not compressed as its header says\n")
        except OSError as error:
            self._failed(error)
        else:
            self._answer(HTTPStatus.NO_CONTENT, b"")

    def _plain(self, body: bytes) -> bytes:
        if self.headers.get("Content-Encoding") == "zstd":
            return zstandard.ZstdDecompressor().decompressobj().decompress(body)
        return body

    def _measured(self) -> None:
        try:
            page = self.server.measures.page()
        except (OSError, ValueError, KeyError) as error:
            self._failed(error)
        else:
            self._answer(HTTPStatus.OK, page, "text/plain; version=0.0.4; charset=utf-8")

    def _failed(self, error: Exception) -> None:
        """vlagent tries again after 503; an error's text may contain the store's address, but no password."""
        reason = f"status {error.code}" if isinstance(error, HTTPError) else type(error).__name__
        print(f"Error: the log store does not answer: {reason}", file=sys.stderr, flush=True)
        self._answer(HTTPStatus.SERVICE_UNAVAILABLE, b"the log store does not answer\n")

    def _answer(self, status: int, body: bytes, kind: str = "text/plain; charset=utf-8") -> None:
        self.send_response_only(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Log nothing: it would read its own lines."""


class Gateway(ThreadingHTTPServer):
    """The server."""

    daemon_threads = True

    def __init__(self, store: Store, port: int, host: str = "0.0.0.0") -> None:  # noqa: S104 - its networks decide
        self.store = store
        self.measures = Measures(store)
        super().__init__((host, port), Handler)


def main(environ: Mapping[str, str]) -> int:
    password = ""
    if path := environ.get("LOG_STORE_PASSWORD_FILE"):
        password = Path(path).read_text(encoding="utf-8").strip()
    store = Store(
        environ.get("LOG_STORE_URL", "http://127.0.0.1:9428"),
        environ.get("LOG_STORE_USER", ""),
        password,
        environ.get("LOG_SERVICE_FIELD", "service"),
    )
    Gateway(store, int(environ.get("LOG_GATEWAY_PORT", "9813"))).serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main(os.environ))
