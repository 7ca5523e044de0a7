"""HTTP sessions: our own servers are never called through a proxy, services outside are."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from backup.store.options import S3Options
from backup.store.s3.bucket import client_for
from dashboards.push import Grafana
from sidecar import deadman, http
from sidecar.address import is_near, shown
from sidecar.prometheus import Prometheus
from sidecar.web import Request, Response, WebServer
from stack.paths import ROOT
from tests.dashboards.prometheus_double import PrometheusDouble

SIDECARS = ("alerts", "backup", "bench", "dashboards", "exporters", "sidecar", "stack")
SESSIONS = ROOT / "sidecar" / "http.py"
# Calls that open a connection through the environment's proxy.
CLIENTS = {
    *(
        f"requests.{name}"
        for name in ("Session", "session", "get", "post", "put", "patch", "delete", "head", "request")
    ),
    *(
        "urllib.request.urlopen",
        "urllib.request.build_opener",
        "urlopen",
        "httpx.Client",
        "httpx.get",
        "httpx.post",
    ),
}


@pytest.fixture
def closed_proxy(monkeypatch: pytest.MonkeyPatch) -> str:
    """Only a proxy that does not exist, as for a user whose company's proxy cannot reach this machine."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    return "http://127.0.0.1:1"


class Seen:
    """A web server that records its requests."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        server = WebServer("127.0.0.1", 0, {"/": self._note}, guard=self._note, posts={"/": self._note})
        self.server = server
        self.url = f"http://127.0.0.1:{server.port}"

    def _note(self, request: Request) -> Response:
        self.requests.append(request)
        return Response(b"{}")


@pytest.fixture
def seen() -> Iterator[Seen]:
    one = Seen()
    with one.server:
        yield one


def called(tree: ast.AST) -> set[str]:
    """The names of all calls in a module, with their dots."""
    return {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}


@pytest.mark.parametrize("package", SIDECARS)
def test_only_one_module_creates_sessions(package: str) -> None:
    others = {
        str(path.relative_to(ROOT)): sorted(found)
        for path in (ROOT / package).rglob("*.py")
        if path != SESSIONS
        if (found := called(ast.parse(path.read_text(encoding="utf-8"))) & CLIENTS)
    }
    assert others == {}, "use sidecar.http.session() or outside_session()"


def test_our_own_servers_are_called_directly(seen: Seen, closed_proxy: str) -> None:
    with pytest.raises(requests.exceptions.ProxyError):
        requests.get(seen.url, timeout=5)
    assert http.session().get(seen.url, timeout=5).ok
    assert http.answers(seen.url)
    assert len(seen.requests) == 2


def test_a_near_host_is_called_directly_by_every_client(seen: Seen, closed_proxy: str) -> None:
    assert http.outside_session().get(seen.url, timeout=5).ok
    assert deadman.call(seen.url)
    assert Grafana(seen.url, "token").dashboard("x") == {}


def test_a_service_outside_is_called_through_the_proxy(
    seen: Seen, closed_proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", seen.url)
    assert http.outside_session().get("http://hc.example.test/ping", timeout=5).ok
    assert seen.requests[0].headers["host"] == "hc.example.test"


@pytest.mark.parametrize(
    ("url", "near"),
    [
        ("http://127.0.0.1:9090", True),
        ("http://localhost/x", True),
        ("http://[::1]:1", True),
        ("http://user:pw@10.1.2.3/", True),
        ("http://posthub_grafana:3000", True),
        ("https://hc-ping.com/x", False),
        ("https://8.8.8.8/", False),
    ],
)
def test_near_hosts(url: str, near: bool) -> None:
    assert is_near(url) is near


def test_netrc_does_not_replace_our_token(
    seen: Seen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login someone password else\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    Grafana(seen.url, "our-token").dashboard("x")
    assert seen.requests[0].headers["authorization"] == "Bearer our-token"
    http.outside_session().get(seen.url.replace("//", "//me:secret@"), timeout=5)
    assert seen.requests[1].headers["authorization"].startswith("Basic ")


def test_an_authority_of_ones_own_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/etc/our-ca.pem")
    assert http.session().verify == "/etc/our-ca.pem"


def test_prometheus_is_queried_directly(closed_proxy: str) -> None:
    with PrometheusDouble() as double:
        assert Prometheus(double.url).instant("up", 0.0)


def test_pictures_are_drawn_behind_a_proxy(closed_proxy: str, tmp_path: Path) -> None:
    """`./ops dashboards render` as a user types it, and what the demo calls, with only http_proxy set."""
    with PrometheusDouble() as double:
        command = [sys.executable, "-m", "dashboards", "render", "--dashboard", "overview", "--range", "5m"]
        done = subprocess.run(
            [*command, "--prometheus-url", double.url, "--out", str(tmp_path)],
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "posthub-overview.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("endpoint", "proxies"), [("http://minio:9000", {}), ("https://s3.example.test", None)]
)
def test_a_near_store_is_never_reached_through_a_proxy(endpoint: str, proxies: object) -> None:
    options = S3Options(endpoint_url=endpoint, region="x", access_key_id="a", secret_access_key="b")
    config: Any = client_for(options).meta.config
    assert config.proxies == proxies


@pytest.mark.parametrize(
    "url", ["https://h:1/x", "https://me@h:1/x", "https://me:secret@h:1/x", "https://me:sec@ret@h:1/x"]
)
def test_no_part_of_a_password_is_shown_with_an_address(url: str) -> None:
    assert shown(url) == "https://h:1/x"
