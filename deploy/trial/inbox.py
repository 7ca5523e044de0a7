#!/usr/bin/env python
"""The notification inbox of a trial: prints every notification that Alertmanager's webhook sends."""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Inbox(BaseHTTPRequestHandler):
    """``POST /`` takes a notification, ``GET /`` is the health check."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        for alert in json.loads(body).get("alerts", []):
            labels = alert["labels"]
            print(f"{alert['status'].upper()} {labels['alertname']} {labels.get('severity', '')}", flush=True)
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


ThreadingHTTPServer(("", 9099), Inbox).serve_forever()
