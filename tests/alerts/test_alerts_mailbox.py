"""A test message is looked for in a mailbox, by IMAP over TLS."""

import shutil
import socketserver
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from alerts.watch.delivery import Mailbox
from tests.certificates import write_certificate

MAILS = {"INBOX": "an old one: 0123456789ab", "Alerts": "test message cafecafecafe, nothing is wrong"}


class Imap(socketserver.StreamRequestHandler):
    """The part of IMAP that a search needs."""

    def handle(self) -> None:
        folder = ""
        self.say("* OK here")
        for line in self.rfile:
            tag, command, *rest = line.decode().split()
            if command.upper() == "CAPABILITY":
                self.say("* CAPABILITY IMAP4rev1")
            elif command.upper() == "EXAMINE":
                folder = rest[0].strip('"')
                self.say("* 1 EXISTS")
            elif command.upper() == "SEARCH":
                self.say("* SEARCH 1" if rest[-1].strip('"') in MAILS[folder] else "* SEARCH")
            elif command.upper() == "LOGIN" and rest != ["reader@posthub.test", '"pass/word"']:
                self.say(f"{tag} NO who are you?")
                continue
            self.say(f"{tag} OK done")
            if command.upper() == "LOGOUT":
                return

    def say(self, text: str) -> None:
        self.wfile.write(f"{text}\r\n".encode())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificate and is not on PATH; apt-get install openssl")
    made = tmp_path_factory.mktemp("imap")
    write_certificate(made)
    return made


@pytest.fixture
def trusted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(folder / "cert.pem"))


@pytest.fixture(scope="module")
def port(folder: Path) -> Iterator[int]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Imap)
    server.daemon_threads = True
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield int(server.server_address[1])
    server.shutdown()
    server.server_close()


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize(
    ("path", "nonce", "found"),
    [("Alerts", "cafecafecafe", True), ("Alerts", "0123456789ab", False), ("", "0123456789ab", True)],
)
def test_a_message_is_found_in_the_folder_that_is_named(
    port: int, path: str, nonce: str, found: bool
) -> None:
    mailbox = Mailbox(f"imaps://reader%40posthub.test:pass%2Fword@127.0.0.1:{port}/{path}")
    assert mailbox.found(nonce) is found


@pytest.mark.usefixtures("trusted")
def test_a_mailbox_that_refuses_is_an_error(port: int) -> None:
    with pytest.raises(Exception, match="who are you"):
        Mailbox(f"imaps://reader%40posthub.test:wrong@127.0.0.1:{port}/").found("cafecafecafe")


def test_a_server_with_an_untrusted_certificate_gets_no_password(port: int) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        Mailbox(f"imaps://reader%40posthub.test:pass%2Fword@127.0.0.1:{port}/").found("cafecafecafe")
