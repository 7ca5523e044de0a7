import gzip
import io
import json
import logging
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime

import click
import pytest
import requests

from sidecar import OpsError, UsageError
from sidecar.cli import run
from sidecar.logs import LineFormatter, configure
from sidecar.web import Response, WebServer
from stack.paths import ROOT


@click.group()
def group() -> None:
    """A group."""


@group.command()
@click.option("--how", default="well")
def work(how: str) -> None:
    if how == "badly":
        raise OpsError("no such database: x", hint="create it")
    if how == "wrongly":
        raise UsageError("PORT=x: not a number", hint="a number")
    click.echo("worked")


FIRST = io.StringIO()


@pytest.mark.parametrize("turn", [1, 2])
def test_a_handler_does_not_outlive_its_test(turn: int) -> None:
    """The second turn would log to the stream of the first, which is closed if the test captures it."""
    assert FIRST not in [getattr(handler, "stream", None) for handler in logging.getLogger().handlers]
    configure(stream=FIRST)


@pytest.mark.parametrize(
    ("argv", "code", "message"),
    [
        (["work"], 0, ""),
        (["--help"], 0, ""),
        (["work", "--how", "badly"], 1, "Error: no such database: x\nTry: create it\n"),
        (["work", "--how", "wrongly"], 2, "Error: PORT=x: not a number\nTry: a number\n"),
        (["wrok"], 2, "Error: No such command 'wrok'"),
        (["work", "--hwo"], 2, "Error: No such option"),
    ],
)
def test_exit_codes_and_messages(
    argv: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(group, argv, prog="ops") == code
    assert capsys.readouterr().err.startswith(message)


@pytest.mark.parametrize("package", ["alerts", "backup", "bench", "dashboards", "exporters"])
def test_help_shows_each_command_as_it_is_typed(package: str) -> None:
    helped, refused = (
        subprocess.run([sys.executable, "-m", package, word], cwd=ROOT, capture_output=True, text=True)
        for word in ("-h", "wrok")
    )
    assert helped.returncode == 0, helped.stderr
    assert helped.stdout.startswith(f"Usage: python -m {package} ")
    message = f"Error: No such command 'wrok'.\nTry: python -m {package} --help\n"
    assert (refused.returncode, refused.stderr) == (2, message)


def test_secrets_never_reach_the_log_even_in_a_traceback() -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(LineFormatter(["hunter2hunter2", "hunter2"]))
    logger = logging.getLogger("x")
    logger.addHandler(handler)
    try:
        raise ValueError("postgres://me:hunter2hunter2@db")
    except ValueError:
        logger.exception("failed url=%s", "redis://:hunter2@r")
    assert "hunter2" not in stream.getvalue()
    assert "Z ERROR x failed url=redis://:********@r" in stream.getvalue()


def test_a_secret_that_begins_with_another_one_is_masked_as_a_whole() -> None:
    formatter = LineFormatter(["hunter2", "hunter2-more"])
    assert formatter.masked("hunter2-more hunter2") == "******** ********"


def test_a_service_logs_json_with_the_names_of_the_apps_logs() -> None:
    stream = io.StringIO()
    configure(secrets=['hunter2"\\hunter2'], stream=stream, form="json")
    try:
        raise ValueError('postgres://me:hunter2"\\hunter2@db')
    except ValueError:
        logging.getLogger("backup.run").exception("failed for %s", 'a\nb hunter2"\\hunter2')
    (line,) = stream.getvalue().splitlines()
    written = json.loads(line)
    assert (written["level"], written["logger"]) == ("ERROR", "backup.run")
    assert written["message"] == "failed for a\nb ********"
    assert written["exc_info"].endswith("ValueError: postgres://me:********@db")
    assert datetime.fromisoformat(written["time"]).tzinfo is not None


@pytest.mark.parametrize(
    "bad", ["\n2026-01-01T00:00:00Z INFO x forged", "\r", "\x1b[2J", "\x00", "\x9b2J", "\u2028"]
)
def test_a_value_neither_forges_a_log_line_nor_moves_the_cursor(bad: str) -> None:
    record = logging.LogRecord("x", logging.INFO, __file__, 1, "task %s", (f"a{bad}b",), None)
    line = LineFormatter().format(record)
    assert len(line.splitlines()) == 1, line
    assert line.isprintable(), line


@pytest.fixture
def server() -> Iterator[WebServer]:
    routes = {
        "/big": lambda request: Response(b"x" * 5000),
        "/echo": lambda request: Response(request.query.get("q", "").encode()),
        "/broken": lambda request: Response(str(1 // 0).encode()),
    }
    with WebServer(
        "127.0.0.1", 0, routes, posts={"/take": lambda request: Response(request.body)}
    ) as running:
        yield running


def test_routes_queries_and_failures(server: WebServer) -> None:
    base = f"http://127.0.0.1:{server.port}"
    assert requests.get(f"{base}/echo?q=hi", timeout=5).text == "hi"
    missing = requests.get(f"{base}/nowhere", timeout=5)
    assert missing.status_code == 404
    assert missing.text == "404 not found; these exist: /big /broken /echo POST /take\n"
    assert requests.get(f"{base}/broken", timeout=5).status_code == 500
    assert requests.head(f"{base}/big", timeout=5).headers["Content-Length"]


def test_a_body_is_posted(server: WebServer) -> None:
    base = f"http://127.0.0.1:{server.port}"
    with requests.Session() as client:
        assert client.post(f"{base}/take", data=b"hi", timeout=5).text == "hi"
        assert client.post(f"{base}/take", timeout=5).text == ""
        for method, path in (("POST", "/big"), ("GET", "/take")):
            refused = client.request(method, f"{base}{path}", data=b"GET /big HTTP/1.1\r\n\r\n", timeout=5)
            assert refused.status_code == 405, refused.text
        assert client.get(f"{base}/echo?q=still+there", timeout=5).text == "still there"


@pytest.mark.parametrize(
    ("head", "status"),
    [
        ("Content-Length: 99999999", 413),
        ("Content-Length: 9" + 20 * "0", 413),
        ("Content-Length: -1", 411),
        ("Content-Length: two", 411),
        ("Transfer-Encoding: chunked", 411),
        ("Content-Length: 5\r\nTransfer-Encoding: chunked", 411),
        ("Host: x", 411),
        ("Content-Length: 9", 400),
    ],
)
def test_a_body_without_an_acceptable_length_is_refused(server: WebServer, head: str, status: int) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as client:
        client.sendall(f"POST /take HTTP/1.1\r\n{head}\r\n\r\nshort".encode())
        client.shutdown(socket.SHUT_WR)
        answer = client.makefile("rb").read().decode()
    assert answer.startswith(f"HTTP/1.1 {status} "), answer
    assert "Connection: close" in answer
    assert answer.count("HTTP/1.1") == 1, "the body was taken for a second request"


def test_a_guard_refuses_before_a_body_is_read() -> None:
    refused = Response(b"no", status=401)
    with WebServer(
        "127.0.0.1", 0, {}, posts={"/": lambda _: Response(b"yes")}, guard=lambda _: refused
    ) as server:
        assert requests.post(f"http://127.0.0.1:{server.port}/", data=b"x", timeout=5).status_code == 401


def test_gzip_only_where_it_is_accepted(server: WebServer) -> None:
    url = f"http://127.0.0.1:{server.port}/big"
    plain = requests.get(url, headers={"Accept-Encoding": "identity"}, timeout=5)
    zipped = requests.get(url, headers={"Accept-Encoding": "gzip"}, timeout=5, stream=True)
    assert "Content-Encoding" not in plain.headers
    assert gzip.decompress(zipped.raw.read()) == plain.content
    # Otherwise a cache in between may give what is compressed to a client that cannot read it.
    assert zipped.headers["Vary"] == "Accept-Encoding"


def test_what_is_compressed_already_is_sent_as_it_is() -> None:
    text = gzip.compress(9000 * b"x").ljust(9000, b"0")
    given = Response(text, headers={"Content-Encoding": "gzip"})
    with WebServer("127.0.0.1", 0, {"/": lambda _: given}) as server:
        url = f"http://127.0.0.1:{server.port}/"
        answer = requests.get(url, headers={"Accept-Encoding": "gzip"}, timeout=5, stream=True)
        assert answer.raw.read() == text


def test_the_response_to_head_has_a_length_but_no_body(server: WebServer) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as client:
        client.sendall(b"HEAD /big HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        head, _, body = client.makefile("rb").read().decode().partition("\r\n\r\n")
    assert head.startswith("HTTP/1.1 200 ")
    assert "Content-Length: 0" not in head
    assert body == ""


def test_the_error_for_a_used_port_names_it(server: WebServer) -> None:
    with pytest.raises(OpsError, match=f"cannot listen on 127.0.0.1:{server.port}"):
        WebServer("127.0.0.1", server.port, {})


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/backup/20261129", 200),
        ("/backup/", 404),
        ("/backup", 404),
        ("/backup/a/b", 404),
        ("/backup/known", 201),
        ("/other/x", 404),
    ],
)
def test_a_star_in_a_route_matches_any_single_name(path: str, status: int) -> None:
    routes = {
        "/backup/*": lambda request: Response(request.path.encode()),
        "/backup/known": lambda _: Response(b"", status=201),
    }
    with WebServer("127.0.0.1", 0, routes) as server:
        answer = requests.get(f"http://127.0.0.1:{server.port}{path}", timeout=30)
        assert answer.status_code == status
        assert requests.post(f"http://127.0.0.1:{server.port}/backup/x", timeout=30).status_code == 405
