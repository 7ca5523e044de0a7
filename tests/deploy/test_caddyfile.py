"""The entry point, on a real Caddy: public pages, closed ones, and those that require a password."""

import base64
import http.client
import os
import re
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from cryptography import x509

from sidecar import OpsError
from sidecar.http import session
from stack import ports
from stack.deploy.edge import EDGE, SERVING, SOCKET, SWITCHES, Edge
from stack.deploy.runner import Runner
from stack.doctor.host import Done
from stack.paths import ROOT, VENV_BIN
from stack.wait import wait_for

CADDY = VENV_BIN / "caddy"
UPSTREAMS = (
    "posthub_api_prod:8000",
    "posthub_api_prod_next:8000",
    "posthub_frontend_prod:8080",
    "posthub_frontend_prod_next:8080",
    "posthub_flower:5555",
    "posthub_grafana:3000",
    "posthub_log_store:9428",
)


class _Echo(BaseHTTPRequestHandler):
    """Answers with its own name and the request."""

    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        super().setup()
        self.server.connections.add(self)  # type: ignore[attr-defined]

    def finish(self) -> None:
        self.server.connections.discard(self)  # type: ignore[attr-defined]
        super().finish()

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
    """A running Caddy: the port of the two sites, its configuration, the variables that this reads, the upstream servers."""

    port: int
    config: Path
    environment: dict[str, str]
    servers: dict[str, ThreadingHTTPServer]

    def reload(self) -> None:
        socket = f"unix/{self.config.parent / 'admin.sock'}"
        subprocess.run(
            [CADDY, "reload", "--config", str(self.config), "--address", socket],
            env=self.environment,
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
    sites = {"SITE_DOMAIN": f"http://site.test:{port}", "API_DOMAIN": f"http://api.test:{port}"}
    try:
        with _started(folder, config, metrics, sites) as environment:
            yield Caddy(port, config, environment, servers)
    finally:
        for server in servers.values():
            server.shutdown()
            server.server_close()


@contextmanager
def _started(folder: Path, config: Path, metrics: int, settings: dict[str, str]) -> Iterator[dict[str, str]]:
    """Runs Caddy, with the environment that it yields."""
    environment = {"PATH": os.defpath, "HOME": str(folder), "ACME_EMAIL": "ops@example.org", **settings}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [CADDY, "run", "--adapter", "caddyfile", "--config", str(config)],
            env=environment,
            stdout=log,
            stderr=log,
        )
        try:
            _wait(f"http://127.0.0.1:{metrics}/healthz", folder / "log")
            yield environment
        finally:
            process.terminate()
            process.wait(10)


def _adapted(folder: Path, upstreams: dict[str, int], metrics: int, init_secrets: Any) -> Path:
    """The Caddyfile itself, with other addresses only."""
    passwords = {"OPS_PASSWORD": "open sesame", "FLOWER_PASSWORD": "of flower", "LOGS_PASSWORD": "of logs"}
    written = init_secrets.files(dict.fromkeys(init_secrets.SECRETS, "") | passwords)
    for name, text in written["caddy"].items():
        (folder / name).write_text(text)
    text = (ROOT / "deploy" / "Caddyfile").read_text(encoding="utf-8")
    changes = {f"{name}": f"127.0.0.1:{port}" for name, port in upstreams.items()}
    changes |= {
        "/run/secrets/": f"{folder}/",
        "unix//tmp/caddy.sock": f"unix/{folder / 'admin.sock'}",
        "http://:2019": f"http://:{metrics}",
        f"root {SWITCHES}": f"root {folder}",
    }
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    (folder / "Caddyfile").write_text(text)
    return folder / "Caddyfile"


def _upstream(name: str) -> ThreadingHTTPServer:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Echo)
    server.name, server.connections = name, set()  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def test_the_certificates_of_a_trial_last_longer_than_the_alerts_require(
    tmp_path: Path, init_secrets: Any
) -> None:
    trial = yaml.safe_load((ROOT / "docker-compose.trial.yml").read_text(encoding="utf-8"))
    options = trial["services"]["posthub_caddy"]["environment"]["CADDY_GLOBAL_OPTIONS"]
    metrics, http, https = (ports.choose() for _ in range(3))
    config = _adapted(tmp_path, dict.fromkeys(UPSTREAMS, 9), metrics, init_secrets)
    settings = {
        "SITE_DOMAIN": "site.test",
        "API_DOMAIN": "api.test",
        "CADDY_GLOBAL_OPTIONS": f"{options}\nhttp_port {http}\nhttps_port {https}\nskip_install_trust",
    }
    with _started(tmp_path, config, metrics, settings):
        for name in ("site.test", "api.test"):
            certificate = wait_for(
                partial(_certificate, https, name), timeout=30, what=name, hint=(tmp_path / "log").read_text()
            )
            left = certificate.not_valid_after_utc - datetime.now(UTC)
            assert left.total_seconds() > _threshold("tls_remaining"), name


def _threshold(name: str) -> float:
    rules = (ROOT / "alerts" / "rules" / "thresholds.yml").read_text(encoding="utf-8")
    return float(re.findall(rf'record: threshold:{name}:seconds\n +expr: "(\d+)"', rules)[0])


def _certificate(port: int, name: str) -> x509.Certificate | None:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with (
            socket.create_connection(("127.0.0.1", port), 5) as line,
            context.wrap_socket(line, server_hostname=name) as secured,
        ):
            found = secured.getpeercert(binary_form=True)
    except OSError:  # it is not issued yet
        return None
    return None if found is None else x509.load_der_x509_certificate(found)


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
def test_metrics_are_never_public(edge: int, host: str, path: str) -> None:
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


class _Local(Runner):
    """Runs this Caddy instead of one in a container."""

    def __init__(self, caddy: Caddy) -> None:
        super().__init__(caddy.config.parent)
        self._environment = caddy.environment
        self._socket = f"unix/{caddy.config.parent / 'admin.sock'}"

    def run(
        self, *command: str, environment: Mapping[str, str] | None = None, stdin: str | None = None
    ) -> Done:
        program, *words = command[command.index(EDGE) + 1 :]
        program = {"caddy": str(CADDY)}.get(program, program)
        words = [self._here(word) for word in words]
        merged = {**self._environment, **(environment or {})}
        return super().run(program, *words, environment=merged, stdin=stdin)

    def _here(self, word: str) -> str:
        """A path in the container as one of this Caddy; its own folder may be in /tmp as well."""
        for theirs, ours in ((SOCKET, self._socket), (SWITCHES, str(self._root))):
            if word.startswith(theirs):
                return ours + word.removeprefix(theirs)
        return word


@pytest.fixture
def switch(caddy: Caddy) -> Iterator[Edge]:
    """Caddy, and the Caddyfile that it has."""
    edge = Edge(_Local(caddy), ("compose",), 0, caddy.config.read_text())
    yield edge
    edge.send_back(*SERVING)


def _answering(port: int, host: str, path: str) -> str:
    return _get(port, host, path).text.split()[0]


def test_requests_go_to_a_second_container_and_back_without_a_reload(caddy: Caddy, switch: Edge) -> None:
    """A reload would close this connection, and requests that Caddy has just read."""
    connection = http.client.HTTPConnection("127.0.0.1", caddy.port, timeout=5)

    def answering() -> str:
        connection.request("POST", "/api/v1/posts/", b"{}", {"Host": f"api.test:{caddy.port}"})
        return connection.getresponse().read().decode().split()[0]

    assert answering() == "posthub_api_prod"
    assert switch.can_move("posthub_api_prod")
    switch.send_to_second("posthub_api_prod")
    assert answering() == "posthub_api_prod_next"
    assert _answering(caddy.port, "site.test", "/api/v1/") == "posthub_api_prod_next"
    assert _answering(caddy.port, "site.test", "/") == "posthub_frontend_prod"
    switch.send_to_second("posthub_frontend_prod")
    assert _answering(caddy.port, "site.test", "/") == "posthub_frontend_prod_next"
    switch.send_back("posthub_api_prod")
    assert answering() == "posthub_api_prod"
    assert _answering(caddy.port, "site.test", "/") == "posthub_frontend_prod_next"
    switch.send_back(*SERVING)
    switch.load()
    assert answering() == "posthub_api_prod"
    assert _answering(caddy.port, "site.test", "/") == "posthub_frontend_prod"
    connection.close()


def test_a_frontend_without_requests_soon_has_no_connections(caddy: Caddy) -> None:
    """A container is stopped only when it has none, and nginx would keep idle ones for longer than a rollout waits."""
    assert _answering(caddy.port, "site.test", "/") == "posthub_frontend_prod"
    frontend = caddy.servers["posthub_frontend_prod:8080"]
    wait_for(
        lambda: not frontend.connections,  # type: ignore[attr-defined]
        timeout=10,
        what="the end of idle connections",
        hint="",
    )


@pytest.fixture
def changed(caddy: Caddy) -> Iterator[Edge]:
    """Caddy, and a new Caddyfile that is not in its container."""
    text = caddy.config.read_text()
    yield Edge(
        _Local(caddy), ("compose",), 0, text.replace("redir /flower /flower/", "redir /flower /elsewhere/")
    )
    caddy.reload()
    assert _place(caddy.port) == "/flower/"


def _place(port: int) -> str:
    return _get(port, "api.test", "/flower").headers["Location"]


def test_a_new_caddyfile_is_loaded_without_its_mount(caddy: Caddy, changed: Edge) -> None:
    """The running process reads it from the command, not from the file in its container."""
    changed.load()
    assert _place(caddy.port) == "/elsewhere/"
    with pytest.raises(OpsError):
        replace(changed, caddyfile="not a Caddyfile {").load()
    assert _place(caddy.port) == "/elsewhere/"


def test_requests_are_moved_with_the_new_caddyfile(caddy: Caddy, changed: Edge) -> None:
    """The old one need not have the switch, and lacks what the new version relies on: perhaps the password of a tool."""
    assert changed.can_move("posthub_api_prod")
    assert _place(caddy.port) == "/elsewhere/"


@pytest.mark.parametrize("text", ["", "try_files /posthub_api_prod_next {"], ids=["no switch", "refused"])
def test_a_caddyfile_that_cannot_move_requests_is_noticed_before(caddy: Caddy, text: str) -> None:
    assert not Edge(_Local(caddy), ("compose",), 0, text).can_move("posthub_api_prod")


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
