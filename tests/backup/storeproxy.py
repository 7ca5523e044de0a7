"""An S3 server with one fault: a proxy in front of a real store that answers some requests itself."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs, urlsplit

from stack.ports import HOST
from stack.standins.server import served

# Of one connection, and not of the message.
_HOP_BY_HOP = {"connection", "expect", "transfer-encoding", "content-length"}
_SUBRESOURCES = {
    "uploads": ("ListMultipartUploads", "CreateMultipartUpload"),
    "object-lock": ("GetObjectLockConfiguration", ""),
    "retention": ("GetObjectRetention", ""),
    "versioning": ("GetBucketVersioning", ""),
    "versions": ("ListObjectVersions", ""),
    "delete": ("", "DeleteObjects"),
}


class Cut(Exception):  # noqa: N818 - an instruction of a rule, not an error
    """Close the connection instead of answering."""


@dataclass(frozen=True)
class Request:
    """A request of a client.

    Attributes:
        key: the object in the bucket; empty for a request about the bucket.
    """

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes

    @property
    def key(self) -> str:
        return self.path.lstrip("/").partition("/")[2]

    @property
    def operation(self) -> str:
        """Its name in Amazon's API."""
        for name, (reads, posts) in _SUBRESOURCES.items():
            if name in self.query:
                return posts if self.method == "POST" else reads
        if "uploadId" in self.query:
            of_upload = {
                "PUT": "UploadPart",
                "POST": "CompleteMultipartUpload",
                "DELETE": "AbortMultipartUpload",
            }
            return of_upload[self.method]
        if not self.key:
            return "ListObjectsV2" if self.method == "GET" else "HeadBucket"
        return f"{self.method.title()}Object"


@dataclass(frozen=True)
class Reply:
    """A response. Its length is added."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


Forward = Callable[[], Reply]
Rule = Callable[[Request, Forward], Reply]


def refusal(status: int, code: str, message: str = "by the rule of a test", **more: str) -> Reply:
    """A response with an error, as S3 servers give it."""
    extra = "".join(f"<{name}>{value}</{name}>" for name, value in more.items())
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message>{extra}</Error>"
    return Reply(status, {"Content-Type": "application/xml"}, body.encode())


def refusing(reply: Reply, *operations: str) -> Rule:
    """Answer these operations like this."""
    return lambda request, forward: reply if request.operation in operations else forward()


@dataclass
class Proxy:
    """What a proxy does, and what it has been asked.

    Attributes:
        port: of the real store, on this host.
        path: what the paths of all requests begin with; the store does not see it.
    """

    port: int
    rule: Rule
    path: str = ""
    seen: list[Request] = field(default_factory=list)
    endpoint: str = ""

    def operations(self) -> list[str]:
        return [request.operation for request in self.seen]


@contextmanager
def proxied(port: int, rule: Rule, path: str = "") -> Iterator[Proxy]:
    """A proxy in front of the store at a port of this host, while the block runs."""
    proxy = Proxy(port, rule, path)
    with served(_Handler, proxy, 0) as address:
        proxy.endpoint = address + path
        yield proxy


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    standin: Proxy

    def _any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = urlsplit(self.path)
        path = parts.path.removeprefix(self.standin.path)
        query = parse_qs(parts.query, keep_blank_values=True)
        request = Request(self.command, path, query, {k.lower(): v for k, v in self.headers.items()}, body)
        self.standin.seen.append(request)
        try:
            reply = self.standin.rule(request, lambda: self._forward(body))
        except Cut:
            self.close_connection = True
            return
        self.send_response(reply.status)
        named = {name.lower() for name in reply.headers}
        for name, value in reply.headers.items():
            self.send_header(name, value)
        if "content-length" not in named:
            self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(reply.body)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _any  # noqa: N815 - the names of the base class

    def _forward(self, body: bytes) -> Reply:
        with closing(HTTPConnection(HOST, self.standin.port, timeout=60)) as real:
            headers = {k: v for k, v in self.headers.items() if k.lower() not in _HOP_BY_HOP}
            real.request(self.command, self.path.removeprefix(self.standin.path), body, headers)
            answer = real.getresponse()
            kept = {k: v for k, v in answer.getheaders() if k.lower() not in _HOP_BY_HOP}
            if self.command == "HEAD" and (length := answer.getheader("Content-Length")):
                kept["Content-Length"] = length
            return Reply(answer.status, kept, answer.read())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the base class
        """Say nothing."""
