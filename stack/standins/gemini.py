"""A stand-in for the parts of Google's Gemini API that this project uses: text, images, videos, files, models.

It is not Google's server. Sources, all read in November 2026: the API's own description for v1beta (the discovery document
of generativelanguage.googleapis.com) for methods and paths, https://ai.google.dev/gemini-api/docs/troubleshooting for errors,
https://cloud.google.com/apis/design/errors for their bodies, and public clients of the API for what the description leaves
open, which is everything in a video's `response`:

- `POST models/M:generateContent` answers with candidates, whose parts have `text` or `inlineData` in base64;
- `POST models/M:predictLongRunning` with `instances[0].prompt` and `parameters` answers with the `name` of an operation,
  and has no idempotency key: two requests are two operations;
- `GET models/M/operations` lists the operations in pages (`pageSize`, `pageToken`, `nextPageToken`), without prompts. The
  description adds that a server may answer UNIMPLEMENTED (`lists=False`); what Google's does was not seen;
- `GET models/M/operations/ID` answers without `done` while the operation runs, and then with `error` (google.rpc.Status)
  or with `response.generateVideoResponse`, which has `generatedSamples[0].video.uri`, or the reasons of the filter;
- the file at that address needs the key too, and is redirected to another address of the same host;
- errors are `{"error": {"code", "message", "status", "details"}}`: 400 (also for a wrong key, with the reason
  `API_KEY_INVALID` in an ErrorInfo), 403, 404, 429 (with the delay in a RetryInfo, and no `Retry-After`), 500, 503, 504.
"""

import base64
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qsl

from stack.standins.server import served

KEY = "standin-key"
PIECE = 16 * 1024


@dataclass
class StandInOperation:
    """One operation that was started, and when it ends (by time.monotonic)."""

    name: str
    prompt: str
    seconds: int
    end: float


@dataclass
class GeminiStandIn:
    """The server's content and behaviour, which a test may change while it runs."""

    image: bytes = b""
    video: bytes = b""
    # How long an operation runs, and the pause after each piece of a file, in seconds.
    operation_seconds: float = 1.0
    piece_seconds: float = 0.0
    # Errors to respond with, by the last word of the path: `predictLongRunning`, `operations`, `files`, ...
    failures: dict[str, tuple[int, str]] = field(default_factory=dict)
    # While this is clear, the request that starts an operation gets no response.
    answering: threading.Event = field(default_factory=threading.Event)
    # Whether operations can be listed, and how many are on a page at most.
    lists: bool = True
    page: int = 100
    operations: list[StandInOperation] = field(default_factory=list)
    polls: int = 0
    downloads: int = 0
    url: str = ""

    def __post_init__(self) -> None:
        self.answering.set()

    @contextmanager
    def running(self, port: int = 0) -> Iterator["GeminiStandIn"]:
        """Serve on 127.0.0.1 until the end of the block."""
        with served(_Handler, self, port) as self.url:
            try:
                yield self
            finally:
                self.answering.set()

    def generate(self, model: str, body: dict[str, Any]) -> dict[str, Any]:
        wanted = body.get("generationConfig", {}).get("responseModalities", ["TEXT"])
        prompt = body["contents"][0]["parts"][0]["text"]
        part: dict[str, Any] = {"text": f"About {prompt}"}
        if "IMAGE" in wanted:
            data = base64.b64encode(self.image).decode()
            part = {"inlineData": {"mimeType": "image/png", "data": data}}
        content = {"role": "model", "parts": [part]}
        return {"candidates": [{"content": content, "finishReason": "STOP"}], "modelVersion": model}

    def start(self, model: str, body: dict[str, Any]) -> dict[str, Any]:
        seconds = int(body["parameters"]["durationSeconds"])
        end = time.monotonic() + self.operation_seconds
        name = f"models/{model}/operations/op{len(self.operations) + 1}"
        self.operations.append(StandInOperation(name, body["instances"][0]["prompt"], seconds, end))
        return {"name": name}

    def listed(self, model: str, query: dict[str, str]) -> dict[str, Any]:
        """A page of the operations of a model. The token of the next page is its first number."""
        found = [
            {"name": operation.name}
            for operation in self.operations
            if operation.name.startswith(f"models/{model}/")
        ]
        start, size = int(query.get("pageToken") or 0), min(self.page, int(query.get("pageSize", self.page)))
        answer: dict[str, Any] = {"operations": found[start : start + size]}
        return answer | ({"nextPageToken": str(start + size)} if start + size < len(found) else {})

    def poll(self, model: str, name: str) -> dict[str, Any] | None:
        self.polls += 1
        number = name.removeprefix("op")
        if not number.isdigit() or not 0 < int(number) <= len(self.operations):
            return None
        operation, answer = self.operations[int(number) - 1], {"name": f"models/{model}/operations/{name}"}
        if time.monotonic() < operation.end:
            return answer
        if "[blocked]" in operation.prompt:
            result: dict[str, Any] = {"raiMediaFilteredCount": 1, "raiMediaFilteredReasons": ["a reason"]}
        elif "[error]" in operation.prompt:
            return answer | {"done": True, "error": {"code": 3, "message": "the prompt is not valid"}}
        else:
            uri = f"{self.url}/v1beta/files/{name}:download?alt=media"
            result = {"generatedSamples": [{"video": {"uri": uri}}]}
        return answer | {"done": True, "response": {"generateVideoResponse": result}}


class _Handler(BaseHTTPRequestHandler):
    standin: GeminiStandIn

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))))
        model, _, action = self.path.removeprefix("/v1beta/models/").partition(":")
        if self._refused(action):
            return
        if action == "generateContent":
            self._json(200, self.standin.generate(model, body))
        elif action == "predictLongRunning":
            answer = self.standin.start(model, body)
            self.standin.answering.wait(60)
            self._json(200, answer)
        else:
            self._error(404, "NOT_FOUND")

    def do_GET(self) -> None:
        path, _, query = self.path.removeprefix("/v1beta/").partition("?")
        parts = path.split("/")
        if self._refused("operations" if "operations" in parts else parts[0]):
            return
        if parts[0] == "files":
            self.send_response(302)
            self.send_header("Location", f"{self.standin.url}/v1beta/download/{parts[1]}")
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif parts[0] == "download":
            self._file()
        elif len(parts) == 2:
            self._json(200, {"name": path})
        elif parts[-1] == "operations":
            listed = self.standin.listed(parts[1], dict(parse_qsl(query)))
            self._json(200, listed) if self.standin.lists else self._error(501, "UNIMPLEMENTED")
        else:
            answer = self.standin.poll(parts[1], parts[-1])
            self._json(200, answer) if answer else self._error(404, "NOT_FOUND")

    def _refused(self, what: str) -> bool:
        if self.headers.get("x-goog-api-key") != KEY:
            info = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}
            self._error(400, "INVALID_ARGUMENT", info)
        elif what in self.standin.failures:
            self._error(*self.standin.failures[what])
        else:
            return False
        return True

    def _file(self) -> None:
        self.standin.downloads += 1
        self.send_response(200)
        self.send_header("Content-Type", "video/mp4")
        self.send_header("Content-Length", str(len(self.standin.video)))
        self.end_headers()
        try:
            for at in range(0, len(self.standin.video), PIECE):
                self.wfile.write(self.standin.video[at : at + PIECE])
                time.sleep(self.standin.piece_seconds)
        except OSError:
            self.close_connection = True  # the reader was killed

    def _error(self, code: int, status: str, *details: dict[str, str]) -> None:
        if code == 429:
            details = ({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "30s"}, *details)
        error = {"code": code, "message": f"stand-in: {status}", "status": status}
        self._json(code, {"error": error | ({"details": list(details)} if details else {})})

    def _json(self, code: int, content: Any) -> None:
        body = json.dumps(content).encode()
        try:
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        except OSError:
            self.close_connection = True

    def log_message(self, *args: Any) -> None:
        pass
