"""The webhook publisher against a real HTTP server (a mock of a customer's), and its guard against our own network."""

import contextlib
import hashlib
import hmac
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from posts.publishers import RejectedError, UnreachableError, webhook
from posts.publishers.addresses import Deadline, ForbiddenAddressError, is_public, public_addresses
from posts.publishers.webhook import WebhookPublisher

pytestmark = pytest.mark.django_db


def publisher(
    url: str, *, secret: str = "", timeout: float = 5.0, allow_private: bool = True, allow_http: bool = True
) -> Any:
    return WebhookPublisher(
        url=url, secret=secret, timeout=timeout, allow_private=allow_private, allow_http=allow_http
    )


def test_the_post_arrives_signed_with_an_idempotency_key(outside: Any, make_post: Callable[..., Any]) -> None:
    outside.will_answer(201, {"id": "their-77"})
    post = make_post(text="Dobrý den")
    assert publisher(outside.url + "/hook", secret="hush").publish(post) == "their-77"
    (request,) = outside.requests
    assert request.path == "/hook"
    assert request.json == {"id": str(post.pk), "channel": "Shop", "text": "Dobrý den"}
    assert request.headers["Idempotency-Key"] == str(post.pk)
    digest = hmac.new(b"hush", request.body, hashlib.sha256).hexdigest()
    assert request.headers["X-PostHub-Signature"] == f"sha256={digest}"


@pytest.mark.parametrize("content", [b"", b"thanks", b"[1]", b"{}"])
def test_an_answer_without_an_id_is_accepted(
    outside: Any, make_post: Callable[..., Any], content: bytes
) -> None:
    outside.will_answer(200, content)
    post = make_post()
    assert publisher(outside.url).publish(post) in {str(post.pk), ""}
    assert "X-PostHub-Signature" not in outside.requests[0].headers


@pytest.mark.parametrize("status", [400, 401, 404, 410, 422])
def test_a_refusal_is_final(outside: Any, make_post: Callable[..., Any], status: int) -> None:
    outside.will_answer(status)
    with pytest.raises(RejectedError, match=str(status)):
        publisher(outside.url).publish(make_post())


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503])
def test_a_failure_of_the_receiver_is_temporary(
    outside: Any, make_post: Callable[..., Any], status: int
) -> None:
    outside.will_answer(status)
    with pytest.raises(UnreachableError, match=str(status)):
        publisher(outside.url).publish(make_post())


def test_redirects_are_not_followed(outside: Any, make_post: Callable[..., Any]) -> None:
    outside.will_answer(302, None, Location="http://169.254.169.254/latest/meta-data/")
    with pytest.raises(RejectedError, match="302"):
        publisher(outside.url).publish(make_post())
    assert len(outside.requests) == 1


def test_no_server(make_post: Callable[..., Any]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(UnreachableError, match="no connection"):
            publisher(url).publish(make_post())


def test_a_slow_receiver_times_out(outside: Any, make_post: Callable[..., Any]) -> None:
    outside.hold = threading.Event()
    outside.will_answer(200)
    with pytest.raises(UnreachableError, match="in time"):
        publisher(outside.url, timeout=0.2).publish(make_post())


@pytest.fixture
def tarpit() -> Iterator[Callable[[bytes], str]]:
    """A server that sends an answer byte by byte, one every 10 ms."""
    stop, answers = threading.Event(), list[bytes]()
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                line, _ = listener.accept()
            except OSError:
                return
            with line:
                line.recv(65536)
                for byte in answers[0]:
                    try:
                        line.sendall(bytes([byte]))
                    except OSError:
                        break
                    if stop.wait(0.01):
                        return

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()

    def answering(answer: bytes) -> str:
        answers.append(answer)
        return f"http://127.0.0.1:{listener.getsockname()[1]}/"

    yield answering
    stop.set()
    with contextlib.suppress(OSError):
        listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(5)


class TestTotalTime:
    """WEBHOOK_TIMEOUT bounds the whole call, not each read."""

    @pytest.mark.parametrize("private", [True, False])
    def test_trickling_headers(
        self, tarpit: Any, make_post: Callable[..., Any], private: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("posts.publishers.addresses.is_public", lambda address: True)
        url = tarpit(b"HTTP/1.1 200 OK\r\n" + b"X-Slow: 1\r\n" * 1000)
        start = time.monotonic()
        with pytest.raises(UnreachableError, match="in time"):
            publisher(url, timeout=0.4, allow_private=private).publish(make_post())
        assert time.monotonic() - start < 1.4

    def test_trickling_tls(self, tarpit: Any, make_post: Callable[..., Any]) -> None:
        """A record that announces 16 kB of the handshake, byte by byte: each read ends in time, and none completes it."""
        url = tarpit(b"\x16\x03\x03\x40\x00\x02" + bytes(1000)).replace("http:", "https:")
        start = time.monotonic()
        with pytest.raises(UnreachableError, match="in time"):
            publisher(url, timeout=0.4).publish(make_post())
        assert time.monotonic() - start < 1.4

    def test_a_trickling_body_is_cut_off_and_the_post_is_published(
        self, tarpit: Any, make_post: Callable[..., Any]
    ) -> None:
        url = tarpit(b"HTTP/1.1 200 OK\r\n\r\n" + b'{"id": "1", ' + b" " * 1000)
        post, start = make_post(), time.monotonic()
        assert publisher(url, timeout=0.6).publish(post) == str(post.pk)
        assert time.monotonic() - start < 1.6

    def test_a_body_that_ends_early_has_no_id(self, tarpit: Any, make_post: Callable[..., Any]) -> None:
        url = tarpit(b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"id"')
        post = make_post()
        assert publisher(url, timeout=3).publish(post) == str(post.pk)

    def test_a_slow_resolver(self, make_post: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
        release = threading.Event()
        monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: release.wait(20) and [])
        start = time.monotonic()
        with pytest.raises(UnreachableError):
            publisher("http://slow.example/", timeout=0.3, allow_private=False).publish(make_post())
        release.set()
        assert time.monotonic() - start < 1.3

    def test_a_second_address_is_tried_when_the_first_has_no_server(
        self, outside: Any, make_post: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(
            "posts.publishers.addresses.public_addresses", lambda *args: ["127.0.0.2", "127.0.0.1"]
        )
        outside.will_answer(200)
        publisher(outside.url.replace("127.0.0.1", "two.invalid"), allow_private=False).publish(make_post())
        assert len(outside.requests) == 1

    def test_nothing_is_left_open(self, outside: Any, make_post: Callable[..., Any]) -> None:
        outside.will_answer(200)
        before = threading.active_count()
        with (
            Deadline(60) as deadline,
            socket.create_connection(("127.0.0.1", int(outside.url[-5:].strip(":/")))) as line,
        ):
            deadline.watch(line)
        assert threading.active_count() <= before + 1, "the mock's own thread at most"


def test_no_more_of_a_long_answer_is_read_than_an_id_needs() -> None:
    asked: list[int] = []

    class Answer:
        """Whatever the receiver sends, however much."""

        raw: Any = None

        def read(self, most: int = -1, *, decode_content: bool) -> bytes:
            asked.append(most)
            return b'{"id": "' + 300 * b"1" + b'"}'

    answer: Any = Answer()
    answer.raw = answer
    assert webhook._external_id(answer) == 200 * "1", "what the column holds"
    assert asked == [64 * 1024]


def test_no_login_of_the_machine_goes_to_a_customer(
    outside: Any, make_post: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login us password secret")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    outside.will_answer(200)
    publisher(outside.url).publish(make_post())
    assert "Authorization" not in outside.requests[0].headers


@pytest.mark.parametrize("port", [22, 25, 465, 587, 993, 1023, 99999])
def test_ports_that_are_not_for_the_web_are_refused(make_post: Callable[..., Any], port: int) -> None:
    with pytest.raises(RejectedError, match=r"port|valid"):
        publisher(f"https://example.com:{port}/", allow_http=False).publish(make_post())


def test_a_proxy_in_the_environment_is_ignored(
    outside: Any, make_post: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    outside.will_answer(200)
    publisher(outside.url).publish(make_post())
    assert len(outside.requests) == 1


class TestGuard:
    @pytest.mark.parametrize(
        "address",
        [
            "1.1.1.1",
            "8.8.8.8",
            "93.184.215.14",
            "192.0.66.1",
            "223.255.255.254",
            "2606:4700:4700::1111",
            "2a00::1",
        ],
    )
    def test_public(self, address: str) -> None:
        assert is_public(address)

    @pytest.mark.parametrize(
        "address",
        [
            "127.0.0.1",
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "fe80::1%eth0",
            "fc00::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            # Special-purpose ranges that Python 3.11's table treats as public.
            "192.31.196.1",
            "192.52.193.1",
            "192.88.99.1",
            "192.175.48.1",
            "64:ff9b:1::1",
            "100:0:0:1::1",
            "2001:1::3",
            "2001:2::1",
            "2001:20::1",
            "2620:4f:8000::1",
            "3ffe::1",
            "3fff::1",
            "4000::1",
            "5f00::1",
            "::ffff:8.8.8.8",
            "::8.8.8.8",
        ],
    )
    def test_not_public(self, address: str) -> None:
        assert not is_public(address)

    @pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "[::1]"])
    def test_the_local_machine_is_never_called(
        self, outside: Any, make_post: Callable[..., Any], host: str
    ) -> None:
        outside.will_answer(200)
        url = outside.url.replace("127.0.0.1", host)
        with pytest.raises(RejectedError, match="address is not public"):
            publisher(url, allow_private=False).publish(make_post())
        assert outside.requests == []

    def test_one_private_address_among_public_ones_is_enough(self, monkeypatch: pytest.MonkeyPatch) -> None:
        answers = [(2, 1, 6, "", (address, 443)) for address in ("8.8.8.8", "10.0.0.1")]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: answers)
        with pytest.raises(ForbiddenAddressError):
            public_addresses("two-faced.example", 443, 5)

    def test_the_connection_goes_to_the_address_that_was_checked(
        self, outside: Any, make_post: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A name that resolves differently the second time must not be resolved twice."""
        from posts.publishers import addresses

        monkeypatch.setattr(addresses, "public_addresses", lambda host, port, seconds: ["127.0.0.1"])
        outside.will_answer(200)
        url = outside.url.replace("127.0.0.1", "rebinding.invalid")
        publisher(url, allow_private=False).publish(make_post())
        assert outside.requests[0].headers["Host"].startswith("rebinding.invalid:")

    def test_a_name_that_does_not_exist_may_exist_later(self, make_post: Callable[..., Any]) -> None:
        with pytest.raises(UnreachableError):
            publisher("https://nowhere.invalid/", allow_private=False).publish(make_post())

    @pytest.mark.parametrize(
        "url", ["http://example.com/", "ftp://example.com/", "file:///etc/passwd", "", "https://"]
    )
    def test_only_https_in_production(self, make_post: Callable[..., Any], url: str) -> None:
        with pytest.raises(RejectedError):
            publisher(url, allow_private=False, allow_http=False).publish(make_post())
