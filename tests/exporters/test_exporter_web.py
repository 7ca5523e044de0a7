"""The exporter's own pages behind TLS and basic auth, from a Prometheus web-config file."""

from collections.abc import Callable
from pathlib import Path

import bcrypt
import pytest
import requests

from sidecar.errors import UsageError
from sidecar.web import Request
from sidecar.webconfig import WebConfig
from tests.certificates import write_certificate
from tests.exporters.exporterkit import Running

USERS = "basic_auth_users:\n  prometheus: {hash}\n"


@pytest.fixture(scope="module")
def hashed() -> str:
    return bcrypt.hashpw(b"correct horse", bcrypt.gensalt(4)).decode()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    return write_certificate(folder)


def test_tls_and_basic_auth(
    broker: str, start: Callable[..., Running], certificate: Path, hashed: str
) -> None:
    config = certificate / "web.yml"
    config.write_text(
        "tls_server_config:\n  cert_file: cert.pem\n  key_file: key.pem\n"
        "http_server_config:\n  headers:\n    X-Frame-Options: deny\n" + USERS.format(hash=hashed)
    )
    running = start(broker, web_config_file_path=str(config))
    url = f"https://localhost:{running.exporter.port}"
    ca = str(certificate / "cert.pem")
    assert requests.get(f"{url}/metrics", verify=ca, timeout=5).status_code == 401
    assert requests.get(f"{url}/nowhere", verify=ca, timeout=5).status_code == 401
    assert (
        requests.get(f"{url}/metrics", auth=("prometheus", "wrong"), verify=ca, timeout=5).status_code == 401
    )
    answer = requests.get(f"{url}/metrics", auth=("prometheus", "correct horse"), verify=ca, timeout=5)
    assert answer.status_code == 200
    assert answer.headers["X-Frame-Options"] == "deny"
    assert requests.get(f"{url}/healthz", verify=ca, timeout=5).status_code == 200
    with pytest.raises(requests.RequestException):
        requests.get(f"http://localhost:{running.exporter.port}/metrics", timeout=5)
    # Plain HTTP on the port did no harm.
    assert requests.get(f"{url}/healthz", verify=ca, timeout=5).status_code == 200


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a list", "not a mapping"),
        ("tls_config: {}", "unknown field tls_config"),
        ("tls_server_config: {cert: x}", "unknown field cert"),
        ("tls_server_config: {cert_file: x.pem, key_file: y.pem}", "No such file"),
        ("basic_auth_users: {a: plain}", "not a bcrypt hash"),
        ("{", "web.yml"),
        ("basic_auth_users: [a]", "basic_auth_users is not a mapping"),
        ("tls_server_config: on", "tls_server_config is not a mapping"),
        ("http_server_config: {headers: 5}", "headers is not a mapping"),
        ("tls_server_config: {cipher_suites: [x]}", "not supported here: cipher_suites"),
    ],
)
def test_wrong_files_are_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "web.yml"
    path.write_text(text)
    with pytest.raises(UsageError, match=message):
        WebConfig(path)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        WebConfig(tmp_path / "web.yml")


def request(header: str) -> Request:
    return Request("/metrics", {}, {"authorization": header} if header else {})


def refused(config: WebConfig, header: str = "") -> int | None:
    """The status with which a request is refused; None when it is not."""
    response = config.guard(request(header))
    return response.status if response else None


@pytest.mark.parametrize(
    "header", ["", "Bearer x", "Basic", "Basic !!!", "Basic /w==", "Basic cHJvbWV0aGV1cw=="]
)
def test_malformed_credentials_are_refused(tmp_path: Path, hashed: str, header: str) -> None:
    path = tmp_path / "web.yml"
    path.write_text(USERS.format(hash=hashed))
    assert refused(WebConfig(path), header) == 401


def test_a_changed_file_takes_effect_at_once_and_a_broken_one_does_not(tmp_path: Path, hashed: str) -> None:
    path = tmp_path / "web.yml"
    path.write_text("")
    config = WebConfig(path)
    assert refused(config) is None
    path.write_text(USERS.format(hash=hashed))
    assert refused(config) == 401
    path.write_text("nonsense: [")
    assert refused(config) == 401


def test_a_new_certificate_that_cannot_be_loaded_changes_nothing(
    tmp_path: Path, certificate: Path, hashed: str
) -> None:
    path = tmp_path / "web.yml"
    tls = f"tls_server_config:\n  cert_file: {certificate}/cert.pem\n  key_file: {certificate}/key.pem\n"
    path.write_text(tls + USERS.format(hash=hashed))
    config = WebConfig(path)
    path.write_text(tls.replace("/cert.pem", "/gone.pem"))
    assert refused(config) == 401
