#!/usr/bin/env python
"""Answers cAdvisor's requests about containers from the Docker engine's socket, and no others.

Anyone who may send any request to the engine is root on the host. This passes on only GET requests for a few pages, and
takes the containers' environment, commands and labels out of the answers. Usage: ``docker_proxy.py [SOCKET] [PORT]``.
"""

import http.client
import json
import re
import socket
import sys
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SOCKET, PORT = "/var/run/docker.sock", 2375
SECONDS = 10.0
LONGEST = 16 * 1024 * 1024
# With or without the API's version. Names of containers are not accepted, only IDs.
ALLOWED = re.compile(r"(/v1\.\d+)?(/_ping|/version|/info|/containers/(json|[0-9a-f]{12,64}/json))")
PASSED_ON = ("Content-Type", "Api-Version", "Ostype", "Docker-Experimental", "Server")


class Engine(http.client.HTTPConnection):
    """A connection to the engine's socket."""

    def __init__(self, path: str) -> None:
        super().__init__("engine", timeout=SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(SECONDS)
        self.sock.connect(self._path)


def without_secrets(answer: Any) -> Any:
    """An answer from the engine without the parts that may contain secrets."""
    if isinstance(answer, dict) and isinstance(answer.get("Config"), dict):
        hidden = {"Env": [], "Cmd": [], "Entrypoint": [], "Healthcheck": None, "Labels": {}}
        config = {**answer["Config"], **hidden}
        return {**answer, "Config": config, "Args": [], "Path": ""}
    if isinstance(answer, list):
        return [
            {**container, "Command": "", "Labels": {}} for container in answer if isinstance(container, dict)
        ]
    return answer


class Handler(BaseHTTPRequestHandler):
    """Passes allowed requests on."""

    server: "Proxy"
    timeout = SECONDS

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def _answer(self, *, with_body: bool) -> None:
        path = self.path.partition("?")[0]
        if not ALLOWED.fullmatch(path):
            self._send(HTTPStatus.FORBIDDEN, b"not allowed here\n", {}, with_body=with_body)
            return
        try:
            status, headers, body = self._ask()
        except (OSError, http.client.HTTPException, ValueError) as error:
            text = f"the engine does not answer: {type(error).__name__}\n".encode()
            self._send(HTTPStatus.BAD_GATEWAY, text, {}, with_body=with_body)
            return
        self._send(status, body, headers, with_body=with_body)

    def _ask(self) -> tuple[int, dict[str, str], bytes]:
        engine = Engine(self.server.engine)
        try:
            engine.request("GET", self.path)
            answer = engine.getresponse()
            body = answer.read(LONGEST)
        finally:
            engine.close()
        if "json" in answer.headers.get("Content-Type", "") and body:
            body = json.dumps(without_secrets(json.loads(body))).encode()
        headers = {name: answer.headers[name] for name in PASSED_ON if name in answer.headers}
        return answer.status, headers, body

    def _send(self, status: int, body: bytes, headers: dict[str, str], *, with_body: bool) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Log nothing: cAdvisor sends requests all the time."""


class Proxy(ThreadingHTTPServer):
    """The server.

    Args:
        engine: path of the engine's socket.
    """

    daemon_threads = True

    def __init__(self, engine: str, port: int, host: str = "0.0.0.0") -> None:  # noqa: S104 - its network decides
        self.engine = engine
        super().__init__((host, port), Handler)


def main(arguments: list[str]) -> int:
    path, port = (*arguments, *(SOCKET, str(PORT))[len(arguments) :])[:2]
    Proxy(path, int(port)).serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
