"""The entry point, on a real Caddy: public pages, closed ones, and those that require a password."""

import base64
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests

from sidecar.http import session
from stack import ports
from stack.paths import ROOT, VENV_BIN

CADDY = VENV_BIN / "caddy"
UPSTREAMS = (
    "posthub_api_prod:8000",
    "posthub_frontend_prod:8080",
    "posthub_flower:5555",
    "posthub_grafana:3000",
    "posthub_log_store:9428",
)


class _Echo(BaseHTTPRequestHandler):
    """Answers with its own name and the request."""

    def do_GET(self) -> None:
        body = f"{self.server.name} {self.path} {self.headers.get('Authorization', '-')}".encode()  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Powered-By", "secret sauce")
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

    def log_message(self, *_: object) -> None:
        pass


@dataclass(frozen=True)
class Caddy:
    """A running Caddy: the port of the two sites, its configuration and the variables that this reads."""

    port: int
    config: Path
    environment: dict[str, str]

    def reload(self, **variables: str) -> None:
        socket = f"unix/{self.config.parent / 'admin.sock'}"
        subprocess.run(
            [CADDY, "reload", "--config", str(self.config), "--address", socket],
            env=self.environment | variables,
            capture_output=True,
            check=True,
        )


@pytest.fixture(scope="module")
def edge(caddy: Caddy) -> int:
    """The port that Caddy serves the two sites on, without TLS."""
    return caddy.port


@pytest.fixture(scope="module")
def caddy(tmp_path_factory: pytest.TempPathFactory, init_secrets: Any) -> Iterator[Caddy]:
    folder = tmp_path_factory.mktemp("caddy")
    servers = {name: _upstream(name.partition(":")[0]) for name in UPSTREAMS}
    port, metrics = ports.choose(), ports.choose()
    config = _adapted(
        folder, {name: server.server_address[1] for name, server in servers.items()}, metrics, init_secrets
    )
    environment = {
        "PATH": os.defpath,
        "HOME": str(folder),
        "ACME_EMAIL": "ops@example.org",
        "SITE_DOMAIN": f"http://site.test:{port}",
        "API_DOMAIN": f"http://api.test:{port}",
    }
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [CADDY, "run", "--adapter", "caddyfile", "--config", str(config)],
            env=environment,
            stdout=log,
            stderr=log,
        )
        try:
            _wait(f"http://127.0.0.1:{metrics}/healthz", folder / "log")
            yield Caddy(port, config, environment)
        finally:
            process.terminate()
            process.wait(10)
            for server in servers.values():
                server.shutdown()
                server.server_close()


def _adapted(folder: Path, upstreams: dict[str, int], metrics: int, init_secrets: Any) -> Path:
    """The Caddyfile itself, with other addresses only."""
    written = init_secrets.files(
        dict.fromkeys(init_secrets.SECRETS, "") | {"FLOWER_PASSWORD": "of flower", "LOGS_PASSWORD": "of logs"}
    )
    (folder / "operators").write_text(init_secrets.operators("open sesame"))
    for name in ("flower", "logs"):
        (folder / name).write_text(written["caddy"][name])
    text = (ROOT / "deploy" / "Caddyfile").read_text(encoding="utf-8")
    changes = {f"{name}": f"127.0.0.1:{port}" for name, port in upstreams.items()}
    changes |= {
        "/run/secrets/": f"{folder}/",
        "unix//tmp/caddy.sock": f"unix/{folder / 'admin.sock'}",
        "http://:2019": f"http://:{metrics}",
    }
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    (folder / "Caddyfile").write_text(text)
    return folder / "Caddyfile"


def _upstream(name: str) -> ThreadingHTTPServer:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Echo)
    server.name = name  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def _wait(url: str, log: Path) -> None:
    for _ in range(100):
        try:
            with session() as client:
                if client.get(url, timeout=1).ok:
                    return
        except requests.RequestException:
            time.sleep(0.1)
    pytest.fail(log.read_text())


def _get(port: int, host: str, path: str, **more: Any) -> requests.Response:
    with session() as client:
        return client.get(
            f"http://127.0.0.1:{port}{path}",
            headers={"Host": f"{host}:{port}"},
            allow_redirects=False,
            timeout=5,
            **more,
        )


@pytest.mark.parametrize("host", ["site.test", "api.test"])
@pytest.mark.parametrize("path", ["/metrics", "/metrics/", "/%6detrics", "/METRICS", "/metrics/x"])
def test_metrics_are_never_open(edge: int, host: str, path: str) -> None:
    assert _get(edge, host, path).status_code == 404


@pytest.mark.parametrize(
    "path",
    ["/flower/", "/flower/api/workers", "/grafana/", "/grafana/api/health", "/logs/select/vmui/"],
)
def test_tools_ask_for_the_operators_password(edge: int, path: str) -> None:
    assert _get(edge, "site.test", path).status_code == 404
    assert _get(edge, "api.test", path).status_code == 401
    assert _get(edge, "api.test", path, auth=("ops", "wrong")).status_code == 401
    answer = _get(edge, "api.test", path, auth=("ops", "open sesame"))
    assert answer.status_code == 200
    tool = path.split("/")[1]
    # The whole path, and without this proxy's password: the tool's own instead, and Grafana asks for one itself.
    upstream, login = {
        "flower": ("flower", f"Basic {base64.b64encode(b'caddy:of flower').decode()}"),
        "grafana": ("grafana", "-"),
        "logs": ("log_store", f"Basic {base64.b64encode(b'logs:of logs').decode()}"),
    }[tool]
    assert answer.text == f"posthub_{upstream} {path} {login}"


@pytest.mark.parametrize(
    "path", ["/logs/insert/jsonline", "/logs/delete/run_task", "/logs/internal/force_merge"]
)
def test_nobody_changes_the_logs_from_outside(edge: int, path: str) -> None:
    answer = _get(edge, "api.test", path, auth=("ops", "open sesame"))
    assert answer.text.split()[0] == "posthub_api_prod"
    assert _get(edge, "site.test", path).status_code == 404


@pytest.mark.parametrize(
    ("host", "path", "upstream"),
    [
        ("site.test", "/", "posthub_frontend_prod"),
        ("site.test", "/posts/1", "posthub_frontend_prod"),
        ("site.test", "/api/v1/posts/", "posthub_api_prod"),
        ("api.test", "/api/v1/posts/", "posthub_api_prod"),
        ("api.test", "/health/", "posthub_api_prod"),
    ],
)
def test_sites_reach_what_they_should(edge: int, host: str, path: str, upstream: str) -> None:
    assert _get(edge, host, path).text.split()[0] == upstream


def test_a_reload_sends_requests_to_a_second_container_and_back(caddy: Caddy) -> None:
    second = _upstream("posthub_api_prod_next")
    try:
        caddy.reload(API_UPSTREAM=f"127.0.0.1:{second.server_address[1]}")
        assert _get(caddy.port, "api.test", "/health/").text.split()[0] == "posthub_api_prod_next"
        assert _get(caddy.port, "site.test", "/api/v1/").text.split()[0] == "posthub_api_prod_next"
        assert _get(caddy.port, "site.test", "/").text.split()[0] == "posthub_frontend_prod"
    finally:
        caddy.reload()
        second.shutdown()
        second.server_close()
    assert _get(caddy.port, "api.test", "/health/").text.split()[0] == "posthub_api_prod"


@pytest.mark.parametrize("path", ["/admin/", "/admin/login/", "/%61dmin/", "//admin/", "/./admin/"])
def test_the_admin_asks_for_the_operators_password(edge: int, path: str) -> None:
    assert _get(edge, "api.test", path).status_code == 401
    assert _get(edge, "api.test", path, auth=("ops", "wrong")).status_code == 401
    answer = _get(edge, "api.test", path, auth=("ops", "open sesame"))
    assert answer.text.split()[0] == "posthub_api_prod"
    # On the other host, the frontend answers.
    assert _get(edge, "site.test", path).text.split()[0] == "posthub_frontend_prod"


def test_tools_without_the_slash_get_it(edge: int) -> None:
    places = {"/flower": "/flower/", "/logs": "/logs/select/vmui/", "/logs/": "/logs/select/vmui/"}
    for path, place in places.items():
        answer = _get(edge, "api.test", path)
        assert answer.status_code == 302
        assert answer.headers["Location"] == place


def test_headers_protect_and_tell_nothing(edge: int) -> None:
    headers = _get(edge, "site.test", "/").headers
    assert headers["Strict-Transport-Security"] == "max-age=31536000"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert "default-src 'self'" in headers["Content-Security-Policy"]
    assert "Server" not in headers
    assert "X-Powered-By" not in headers


def test_a_body_that_is_too_large_is_refused(edge: int) -> None:
    with session() as client:

        def post(size: int) -> int:
            url = f"http://127.0.0.1:{edge}/api/v1/posts/"
            return client.post(
                url, data=b"x" * size, headers={"Host": f"api.test:{edge}"}, timeout=10
            ).status_code

        assert post(1024) == 200
        assert post(11 * 1024 * 1024) in (413, 502)
