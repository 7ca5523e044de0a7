"""deploy/docker_proxy.py before a socket that answers like the engine's: what passes, and what is removed."""

import importlib.util
import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests

from sidecar.http import session
from stack.paths import ROOT

CONTAINER = "a" * 64
INSPECTED = {
    "Id": CONTAINER,
    "Name": "/posthub_init",
    "Args": ["--password", "hunter2"],
    "Path": "python",
    "Config": {
        "Env": ["SECRET_KEY=hunter2"],
        "Cmd": ["hunter2"],
        "Labels": {"token": "hunter2"},
        "Image": "x",
    },
    "HostConfig": {"NetworkMode": "none"},
}


class _Engine(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.server.seen.append(f"{self.command} {self.path}")  # type: ignore[attr-defined]
        content: Any = {"Driver": "overlay2"}
        if "/containers/json" in self.path:
            content = [{"Id": CONTAINER, "Command": "hunter2", "Labels": {"a": "hunter2"}, "Names": ["/x"]}]
        elif "/containers/" in self.path:
            content = INSPECTED
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Api-Version", "1.41")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        return "socket"

    def log_message(self, *_: object) -> None:
        pass


class _Socket(ThreadingHTTPServer):
    address_family = socket.AF_UNIX

    def server_bind(self) -> None:
        self.socket.bind(self.server_address)

    def get_request(self) -> tuple[Any, Any]:
        return self.socket.accept()[0], ("", 0)


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, list[str]]]:
    """The proxy's address, and the requests that reached the engine."""
    spec = importlib.util.spec_from_file_location("docker_proxy", ROOT / "deploy" / "docker_proxy.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    path: Path = tmp_path_factory.mktemp("engine") / "docker.sock"
    engine = _Socket(str(path), _Engine)  # type: ignore[arg-type]
    engine.seen = []  # type: ignore[attr-defined]
    server = module.Proxy(str(path), 0, "127.0.0.1")
    for one in (engine, server):
        threading.Thread(target=one.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}", engine.seen  # type: ignore[attr-defined]
    for one in (engine, server):
        one.shutdown()
        one.server_close()


def _ask(method: str, url: str) -> requests.Response:
    with session() as client:
        return client.request(method, url, timeout=10)


@pytest.mark.parametrize(
    "page",
    ["/_ping", "/version", "/v1.41/info", "/v1.41/containers/json?all=1", f"/containers/{CONTAINER}/json"],
)
def test_what_cadvisor_asks_is_answered(proxy: tuple[str, list[str]], page: str) -> None:
    answer = _ask("GET", f"{proxy[0]}{page}")
    assert answer.status_code == 200
    assert answer.headers["Api-Version"] == "1.41"
    assert proxy[1][-1] == f"GET {page}"


@pytest.mark.parametrize("page", ["/containers/json", f"/v1.41/containers/{CONTAINER}/json"])
def test_what_may_contain_secrets_is_taken_out(proxy: tuple[str, list[str]], page: str) -> None:
    answer = _ask("GET", f"{proxy[0]}{page}")
    assert "hunter2" not in answer.text
    assert CONTAINER in answer.text


def test_what_cadvisor_reads_of_a_container_is_kept(proxy: tuple[str, list[str]]) -> None:
    found = _ask("GET", f"{proxy[0]}/containers/{CONTAINER}/json").json()
    assert (found["Name"], found["Config"]["Image"], found["HostConfig"]) == (
        "/posthub_init",
        "x",
        {"NetworkMode": "none"},
    )


@pytest.mark.parametrize(
    ("method", "page", "status"),
    [
        ("POST", "/containers/create", 501),
        ("DELETE", f"/containers/{CONTAINER}", 501),
        ("POST", "/v1.41/info", 501),
        ("GET", f"/containers/{CONTAINER}/archive", 403),
        ("GET", f"/containers/{CONTAINER}/logs", 403),
        ("GET", "/containers/posthub_init/json", 403),
        ("GET", f"/containers/{CONTAINER}/json/../../../secrets", 403),
        ("GET", "/v1.41/secrets", 403),
        ("GET", "/events", 403),
        ("GET", "/", 403),
    ],
)
def test_nothing_else_reaches_the_engine(
    proxy: tuple[str, list[str]], method: str, page: str, status: int
) -> None:
    before = list(proxy[1])
    # As written: a client would normalise the path.
    request = requests.Request(method, proxy[0]).prepare()
    request.url = f"{proxy[0]}{page}"
    with session() as client:
        assert client.send(request, timeout=10).status_code == status
    assert proxy[1] == before


def test_an_engine_that_is_away_is_reported(tmp_path: Path, proxy: tuple[str, list[str]]) -> None:
    spec = importlib.util.spec_from_file_location("docker_proxy", ROOT / "deploy" / "docker_proxy.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    server = module.Proxy(str(tmp_path / "nowhere"), 0, "127.0.0.1")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        answer = _ask("GET", f"http://127.0.0.1:{server.server_address[1]}/_ping")
    finally:
        server.shutdown()
        server.server_close()
    assert answer.status_code == 502
    assert answer.text == "the engine does not answer: FileNotFoundError\n"
