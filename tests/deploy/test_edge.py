"""Requests during the replacement of a container: Caddy sends them elsewhere, and only an idle container is stopped."""

import socket
import subprocess
from pathlib import Path

import pytest

from stack.deploy import edge
from stack.deploy.edge import NEXT, SERVING, SWITCHES, Edge
from stack.deploy.runner import Runner
from stack.doctor.host import Done
from stack.paths import ROOT

CADDYFILE = ROOT / "deploy" / "Caddyfile"


class _Here(Runner):
    """Runs on this machine what would run in a container."""

    def run(self, *command: str, **_: object) -> Done:
        shell = command[command.index("sh") :]
        done = subprocess.run(shell, capture_output=True, text=True, check=True)
        return Done(done.returncode, done.stdout)


@pytest.fixture
def listener(monkeypatch: pytest.MonkeyPatch) -> socket.socket:
    """A server that accepts no connection, so that they stay in the kernel's queue."""
    monkeypatch.setattr(edge, "DRAIN_SECONDS", 0)
    server = socket.create_server(("0.0.0.0", 0))
    port = server.getsockname()[1]
    monkeypatch.setitem(SERVING, "posthub_api_prod", port)
    return server


def _drained(tmp_path: Path) -> bool:
    return Edge(_Here(tmp_path), ("compose",), pause=0, caddyfile="").drain("posthub_api_prod", "container")


def test_a_container_without_connections_is_idle(listener: socket.socket, tmp_path: Path) -> None:
    assert _drained(tmp_path)


def test_a_request_that_waits_to_be_accepted_counts(listener: socket.socket, tmp_path: Path) -> None:
    with socket.create_connection(("127.0.0.2", listener.getsockname()[1])):
        assert not _drained(tmp_path)


def test_the_containers_own_health_check_does_not_count(listener: socket.socket, tmp_path: Path) -> None:
    with socket.create_connection(("127.0.0.1", listener.getsockname()[1])):
        assert _drained(tmp_path)


@pytest.mark.parametrize(("service", "port"), SERVING.items())
def test_the_caddyfile_has_both_containers_of_each_service(service: str, port: int) -> None:
    text = CADDYFILE.read_text(encoding="utf-8")
    assert f"root {SWITCHES}\n\t\ttry_files /{service}{NEXT}\n" in text
    assert f"reverse_proxy @second {service}{NEXT}:{port} {{" in text
    assert f"reverse_proxy {service}:{port} {{" in text
