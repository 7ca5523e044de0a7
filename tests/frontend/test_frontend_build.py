"""The build, and the server in front of it."""

import gzip
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from sidecar.http import session
from stack import web
from stack.servers import Service
from stack.web.site import headers

pytestmark = [pytest.mark.timeout(300), pytest.mark.xdist_group("frontend")]


def test_the_page_needs_what_the_policy_allows(bundle: Path) -> None:
    page = (bundle / "index.html").read_text()
    assert not re.search(r"<script(?![^>]* src=)|<style|\son\w+=|style=", page)
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", page)


def test_every_large_text_is_there_compressed(bundle: Path) -> None:
    texts = [path for path in bundle.iterdir() if path.suffix in (".js", ".css", ".html")]
    for path in texts:
        if path.stat().st_size >= 512:
            assert gzip.decompress(path.with_name(path.name + ".gz").read_bytes()) == path.read_bytes()


@pytest.fixture(scope="module")
def served(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    from stack import ports

    folder = tmp_path_factory.mktemp("web")
    server = web.site(bundle, api=ports.choose(), port=ports.choose(), folder=folder, log=folder / "log")
    with server:
        yield server


def get(server: Service, path: str) -> requests.Response:
    with session() as client:
        return client.get(server.url + path, timeout=5)


def test_pages_are_asked_for_again_and_files_with_a_digest_never(served: Service, bundle: Path) -> None:
    hashed = next(path.name for path in bundle.glob("main-*.js"))
    assert get(served, "/").headers["Cache-Control"] == "no-cache"
    assert get(served, "/posts/1").text == get(served, "/").text
    answer = get(served, f"/{hashed}")
    assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert answer.headers["Content-Encoding"] == "gzip"
    assert answer.headers["Content-Security-Policy"] == headers()["Content-Security-Policy"]


def test_a_missing_file_is_missing_and_the_api_is_not_a_page(served: Service) -> None:
    assert get(served, "/chunk-AAAAAAAA.js").status_code == 404
    assert get(served, "/api/v1/me/").status_code == 502
