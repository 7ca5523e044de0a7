"""The production image's nginx.conf on a real nginx: only the port and the folders differ."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from sidecar import OpsError
from sidecar.http import session
from stack import ports
from stack.programs import find
from stack.servers import Service
from stack.web.node import FRONTEND
from stack.web.site import headers

pytestmark = [pytest.mark.timeout(300), pytest.mark.xdist_group("frontend")]

MIME = "types { text/html html; text/css css; application/javascript js; image/svg+xml svg; text/plain txt; }"


def _adapted(files: Path, folder: Path, port: int) -> str:
    text = (FRONTEND / "nginx.conf").read_text(encoding="utf-8")
    text = text.replace("listen 8080", f"listen 127.0.0.1:{port}").replace(
        "include /etc/nginx/mime.types;", MIME
    )
    # Folders last: they may be below /tmp themselves.
    text = text.replace("/tmp/", f"{folder}/").replace("/usr/share/nginx/html", str(files))
    # The image sets this with USER; the tests may run as root.
    return f"user root;\n{text}" if os.getuid() == 0 else text


@pytest.fixture(scope="module")
def nginx(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    try:
        program = find("nginx")
    except OpsError as error:
        pytest.skip(f"{error.message}; {error.hint}")
    folder, port = tmp_path_factory.mktemp("nginx"), ports.choose()
    config = folder / "nginx.conf"
    config.write_text(_adapted(bundle, folder, port), encoding="utf-8")
    command = [str(program), "-p", str(folder), "-c", str(config), "-e", "stderr", "-g", "daemon off;"]
    with Service(
        "nginx", command, folder=folder, env={"PATH": os.defpath}, port=port, ready="/healthz"
    ) as server:
        yield server


def get(server: Service, path: str, **headers: str) -> requests.Response:
    with session() as client:
        return client.get(server.url + path, headers=headers, timeout=5)


def test_every_answer_is_protected(nginx: Service) -> None:
    for path in ("/", "/posts/1", "/favicon.svg", "/chunk-AAAAAAAA.js", "/healthz"):
        answer = get(nginx, path)
        assert {name: answer.headers.get(name) for name in headers()} == headers(), path
        assert not re.search(r"\d", answer.headers["Server"])


def test_app_addresses_get_the_page_and_missing_files_a_404(nginx: Service) -> None:
    page = get(nginx, "/")
    assert "<ph-root>" in page.text
    assert page.headers["Cache-Control"] == "no-cache"
    assert get(nginx, "/posts/0d9b/anything").text == page.text
    missing = get(nginx, "/chunk-AAAAAAAA.js")
    assert missing.status_code == 404
    assert "Cache-Control" not in missing.headers
    assert get(nginx, "/../nginx.conf").status_code in (400, 404)


def test_files_with_a_digest_are_cached_and_compressed(nginx: Service, bundle: Path) -> None:
    script = next(path.name for path in bundle.glob("main-*.js"))
    small = get(nginx, f"/{script}", **{"Accept-Encoding": "gzip"})
    assert small.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert small.headers["Content-Encoding"] == "gzip"
    assert small.headers["Vary"] == "Accept-Encoding"
    plain = get(nginx, f"/{script}", **{"Accept-Encoding": "identity"})
    assert "Content-Encoding" not in plain.headers
    assert plain.content == small.content == (bundle / script).read_bytes()
