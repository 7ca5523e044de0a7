"""GrafanaDouble: an HTTP server that answers as Grafana's API does, as far as folders and dashboards go.

Grafana itself is not available to the tests. Behaviour taken from its HTTP API reference: status codes, bodies, versions,
`overwrite`, refusal of unknown folders, of tokens without rights, and of provisioned dashboards.
"""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

EDITOR, VIEWER = "glsa_editor", "glsa_viewer"


class GrafanaDouble:
    """State and server; use as a context manager. `page` replaces every response, as from another server at this address."""

    def __init__(self) -> None:
        self.folders: dict[str, dict[str, Any]] = {}
        self.dashboards: dict[str, dict[str, Any]] = {}
        self.provisioned: set[str] = set()
        self.writes: list[str] = []
        self.fail_with: int | None = None
        self.page: tuple[int, str] | None = None

    def __enter__(self) -> Self:
        handler = type("Handler", (_Handler,), {"grafana": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, method: str, path: str, token: str, body: Any) -> tuple[int, Any]:
        if self.fail_with:
            return self.fail_with, {"message": "Internal server error"}
        if token not in (EDITOR, VIEWER):
            return 401, {"message": "Invalid API key", "messageId": "api-key.invalid", "statusCode": 401}
        if method != "GET" and token == VIEWER:
            return 403, {"message": "You'll need additional permissions to perform this action."}
        return self._write(method, path, body) if method != "GET" else self._read(path)

    def _write(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        self.writes.append(path)
        if method == "PUT":
            return self._rename(path.rsplit("/", 1)[1], body)
        return {"/api/folders": self._folders, "/api/dashboards/db": self._save}[path](body)

    def _read(self, path: str) -> tuple[int, Any]:
        if path.startswith("/api/folders/"):
            return self._find(self.folders, path, "folder not found")
        if path.startswith("/api/dashboards/uid/"):
            return self._find(self.dashboards, path, "Dashboard not found")
        return 404, {"message": "Not found"}

    def _folders(self, body: Any) -> tuple[int, Any]:
        if body["uid"] in self.folders:
            return 412, {"message": "the folder has been changed by someone else"}
        self.folders[body["uid"]] = {"id": len(self.folders) + 1, "version": 1, **body}
        return 200, self.folders[body["uid"]]

    def _rename(self, uid: str, body: Any) -> tuple[int, Any]:
        if not body.get("overwrite"):
            return 412, {"message": "the folder has been changed by someone else"}
        self.folders[uid]["title"] = body["title"]
        return 200, self.folders[uid]

    def _save(self, body: Any) -> tuple[int, Any]:
        dashboard, uid = body["dashboard"], body["dashboard"]["uid"]
        if body["folderUid"] not in self.folders:
            return 400, {"message": "folder not found"}
        if uid in self.provisioned:
            return 400, {"message": "Cannot save provisioned dashboard"}
        before = self.dashboards.get(uid)
        if before and not body.get("overwrite"):
            return 412, {
                "message": "The dashboard has been changed by someone else",
                "status": "version-mismatch",
            }
        version = before["dashboard"]["version"] + 1 if before else 1
        # Newer Grafanas migrate what they store: fields appear that nobody sent.
        kept = {
            **dashboard,
            "id": 40 + len(self.dashboards),
            "version": version,
            "schemaVersion": 99,
            "new": {},
        }
        self.dashboards[uid] = {
            "dashboard": kept,
            "meta": {"folderUid": body["folderUid"], "version": version},
        }
        return 200, {"uid": uid, "status": "success", "version": version}

    def _find(self, kept: dict[str, dict[str, Any]], path: str, missing: str) -> tuple[int, Any]:
        found = kept.get(path.rsplit("/", 1)[1])
        return (200, found) if found else (404, {"message": missing})


class _Handler(BaseHTTPRequestHandler):
    grafana: GrafanaDouble

    def _serve(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if self.grafana.page:
            status, text = self.grafana.page
            payload = text.encode()
        else:
            status, answer = self.grafana.answer(self.command, self.path, token, body)
            payload = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_PUT(self) -> None:
        self._serve()

    def log_message(self, *_: object) -> None:
        pass
