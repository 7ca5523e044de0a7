"""The webhook publisher against a real HTTP server (a mock of a customer's), and its guard against our own network."""

import hashlib
import hmac
import socket

import pytest

from posts.publishers import RejectedError, UnreachableError
from posts.publishers.addresses import ForbiddenAddressError, is_public, public_address
from posts.publishers.webhook import WebhookPublisher

pytestmark = pytest.mark.django_db


def publisher(url, *, secret="", timeout=5.0, allow_private=True, allow_http=True):
    return WebhookPublisher(
        url=url, secret=secret, timeout=timeout, allow_private=allow_private, allow_http=allow_http
    )


def test_the_post_arrives_signed_with_an_idempotency_key(outside, make_post):
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
def test_an_answer_without_an_id_is_accepted(outside, make_post, content):
    outside.will_answer(200, content)
    post = make_post()
    assert publisher(outside.url).publish(post) in {str(post.pk), ""}
    assert "X-PostHub-Signature" not in outside.requests[0].headers


@pytest.mark.parametrize("status", [400, 401, 404, 410, 422])
def test_a_refusal_is_final(outside, make_post, status):
    outside.will_answer(status)
    with pytest.raises(RejectedError, match=str(status)):
        publisher(outside.url).publish(make_post())


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503])
def test_a_failure_of_the_receiver_is_temporary(outside, make_post, status):
    outside.will_answer(status)
    with pytest.raises(UnreachableError, match=str(status)):
        publisher(outside.url).publish(make_post())


def test_redirects_are_not_followed(outside, make_post):
    outside.will_answer(302, None, Location="http://169.254.169.254/latest/meta-data/")
    with pytest.raises(RejectedError, match="302"):
        publisher(outside.url).publish(make_post())
    assert len(outside.requests) == 1


def test_no_server(make_post):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(UnreachableError, match="no connection"):
            publisher(url).publish(make_post())


def test_a_slow_receiver_times_out(outside, make_post):
    import threading

    outside.hold = threading.Event()
    outside.will_answer(200)
    with pytest.raises(UnreachableError, match="in time"):
        publisher(outside.url, timeout=0.2).publish(make_post())


def test_a_proxy_in_the_environment_is_ignored(outside, make_post, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    outside.will_answer(200)
    publisher(outside.url).publish(make_post())
    assert len(outside.requests) == 1


class TestGuard:
    @pytest.mark.parametrize(
        "address",
        ["8.8.8.8", "93.184.215.14", "2606:4700:4700::1111"],
    )
    def test_public(self, address):
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
        ],
    )
    def test_not_public(self, address):
        assert not is_public(address)

    @pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "[::1]"])
    def test_our_own_machine_is_never_called(self, outside, make_post, host):
        outside.will_answer(200)
        url = outside.url.replace("127.0.0.1", host)
        with pytest.raises(RejectedError, match="address is not public"):
            publisher(url, allow_private=False).publish(make_post())
        assert outside.requests == []

    def test_one_private_address_among_public_ones_is_enough(self, monkeypatch):
        answers = [(2, 1, 6, "", (address, 443)) for address in ("8.8.8.8", "10.0.0.1")]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: answers)
        with pytest.raises(ForbiddenAddressError):
            public_address("two-faced.example", 443)

    def test_the_connection_goes_to_the_address_that_was_checked(self, outside, make_post, monkeypatch):
        """A name that resolves differently the second time must not be resolved twice."""
        from posts.publishers import addresses

        monkeypatch.setattr(addresses, "public_address", lambda host, port: "127.0.0.1")
        outside.will_answer(200)
        url = outside.url.replace("127.0.0.1", "rebinding.invalid")
        publisher(url, allow_private=False).publish(make_post())
        assert outside.requests[0].headers["Host"].startswith("rebinding.invalid:")

    def test_a_name_that_does_not_exist_may_exist_later(self, make_post):
        with pytest.raises(UnreachableError):
            publisher("https://nowhere.invalid/", allow_private=False).publish(make_post())

    @pytest.mark.parametrize(
        "url", ["http://example.com/", "ftp://example.com/", "file:///etc/passwd", "", "https://"]
    )
    def test_only_https_in_production(self, make_post, url):
        with pytest.raises(RejectedError):
            publisher(url, allow_private=False, allow_http=False).publish(make_post())
