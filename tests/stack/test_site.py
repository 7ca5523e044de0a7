"""The web server before the frontend's files, without a frontend."""

from pathlib import Path

import requests

from stack import ports
from stack.web import site


def test_a_path_may_have_spaces(tmp_path: Path) -> None:
    files = tmp_path / "my files"
    files.mkdir()
    (files / "index.html").write_text("hello")
    folder = tmp_path / "my state"
    with site(files, api=ports.choose(), port=ports.choose(), folder=folder, log=tmp_path / "log") as server:
        assert requests.get(server.url, timeout=5).text == "hello"
