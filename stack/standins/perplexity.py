"""A stand-in for the parts of Perplexity's API that this project uses: chat completions, and the list of asynchronous requests.

It is not Perplexity's server. Sources, read in November 2026: the reference at https://docs.perplexity.ai/api-reference (the
list: /async-sonar-get) and Perplexity's own library for Node.js, which uses the two paths below; the reference also has newer
names for them (`/v1/sonar`, `/v1/async/sonar`). Perplexity has no page of models for these keys: `/router/v1/models` belongs
to another product, which is in private preview.

- `POST /chat/completions` with `model` and `messages` answers with `choices`, of which each has a `message`;
- `GET /async/chat/completions` answers with `requests` and `next_token`; it starts nothing and costs nothing;
- a wrong key is answered with 401 and HTML by a server in front of the API, as users report; a request that is not valid with
  422 and `detail`; 429, 500 and above as usual.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from stack.standins.server import served

KEY = "pplx-standin"
UNAUTHORIZED = b"<html><head><title>401 Authorization Required</title></head></html>"


@dataclass
class PerplexityStandIn:
    """The server's behaviour, which a test may change while it runs."""

    text: str = "About the prompt"
    # An answer to give instead: status and body.
    failure: tuple[int, bytes] | None = None
    # Method and path of each request.
    requests: list[tuple[str, str]] = field(default_factory=list)
    url: str = ""

    @contextmanager
    def running(self, port: int = 0) -> Iterator["PerplexityStandIn"]:
        """Serve on 127.0.0.1 until the end of the block."""
        with served(_Handler, self, port) as self.url:
            yield self

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        if (method, path) == ("GET", "/async/chat/completions"):
            return 200, {"requests": [], "next_token": None}
        if (method, path) != ("POST", "/chat/completions"):
            return 404, {"detail": "Not Found"}
        if not isinstance(body, dict) or not {"model", "messages"} <= set(body):
            return 422, {"detail": [{"loc": ["body"], "msg": "Field required", "type": "missing"}]}
        message = {"role": "assistant", "content": self.text}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        return 200, {
            "id": "standin",
            "object": "chat.completion",
            "created": 1,
            "model": body["model"],
            "choices": [choice],
            "usage": {"prompt_tokens": 4, "completion_tokens": 8, "total_tokens": 12},
        }


class _Handler(BaseHTTPRequestHandler):
    standin: PerplexityStandIn

    def do_GET(self) -> None:
        self._respond(None)

    def do_POST(self) -> None:
        self._respond(json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0)))))

    def _respond(self, body: Any) -> None:
        self.standin.requests.append((self.command, self.path))
        if self.standin.failure is not None:
            self._send(*self.standin.failure, kind="text/html")
        elif self.headers.get("Authorization") != f"Bearer {KEY}":
            self._send(401, UNAUTHORIZED, kind="text/html")
        else:
            status, content = self.standin.answer(self.command, self.path, body)
            self._send(status, json.dumps(content).encode(), kind="application/json")

    def _send(self, status: int, content: bytes, *, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args: Any) -> None:
        pass
