"""A store for which large objects cost nothing: what ``/dev/null`` is for a pipe.

It takes the place of a store on another machine, whose processor time would otherwise be taken from what is measured.
The parts of uploads are received and discarded. Everything else goes to a real store, unchanged, so that its signatures
remain valid.
"""

from collections import defaultdict
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs, urlsplit

from stack.ports import HOST
from stack.standins.server import served

_PIECE = 1 << 18
_UPLOAD = "discarded"
_BEGUN = f"<InitiateMultipartUploadResult><UploadId>{_UPLOAD}</UploadId></InitiateMultipartUploadResult>"
_COMPLETE = "<CompleteMultipartUploadResult></CompleteMultipartUploadResult>"
# Of one connection, and not of the message.
_HOP_BY_HOP = {"connection", "expect", "transfer-encoding", "content-length"}


@dataclass(frozen=True)
class _Discarding:
    """Such a store, in front of the one at a port of this host, and the sizes of the objects that it has discarded."""

    behind: int
    sizes: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))


def discarding(port: int) -> AbstractContextManager[str]:
    """The address of such a store, in front of the one at a port of this host, while the block runs."""
    return served(_Handler, _Discarding(port), 0)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    standin: _Discarding

    def do_PUT(self) -> None:
        if "partNumber" not in self._query():
            self._forward()
            return
        size = left = self._length()
        room = memoryview(bytearray(_PIECE))
        while left and (count := self.rfile.readinto(room[: min(left, _PIECE)])):
            left -= count
        self.standin.sizes[self._object()] += size
        self._answer(200, {"ETag": f'"{_UPLOAD}"'})

    def do_POST(self) -> None:
        query = self._query()
        if "uploads" in query:
            self._answer(200, {}, _BEGUN.encode())
        elif "uploadId" in query:
            self.rfile.read(self._length())
            self._answer(200, {}, _COMPLETE.encode())
        else:
            self._forward()

    def do_HEAD(self) -> None:
        size = self.standin.sizes.get(self._object())
        if size is None:
            self._forward()
        else:
            self._answer(
                200,
                {
                    "Content-Length": str(size),
                    "ETag": f'"{_UPLOAD}"',
                    "Last-Modified": self.date_time_string(),
                },
            )

    def do_GET(self) -> None:
        self._forward()

    def do_DELETE(self) -> None:
        self._forward()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the base class
        """Say nothing."""

    def _query(self) -> dict[str, list[str]]:
        return parse_qs(urlsplit(self.path).query, keep_blank_values=True)

    def _object(self) -> str:
        return urlsplit(self.path).path

    def _length(self) -> int:
        return int(self.headers.get("Content-Length") or 0)

    def _forward(self) -> None:
        body = self.rfile.read(self._length())
        headers = {
            name: value
            for name, value in self.headers.items()
            if name.lower() not in _HOP_BY_HOP - {"content-length"}
        }
        with closing(HTTPConnection(HOST, self.standin.behind)) as connection:
            connection.request(self.command, self.path, body, headers)
            answer = connection.getresponse()
            data = answer.read()
            kept = {name: value for name, value in answer.getheaders() if name.lower() not in _HOP_BY_HOP}
            if self.command == "HEAD":
                kept["Content-Length"] = answer.getheader("Content-Length") or "0"
            self._answer(answer.status, kept, data)

    def _answer(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if "Content-Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
