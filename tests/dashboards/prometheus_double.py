"""PrometheusDouble: answers every query with the same made-up series, so that pictures need no live stack."""

import json
import math
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs

# Any label that a legend or a table of the dashboards may ask for.
LABELS = (
    "queue_name",
    "task",
    "hostname",
    "schedule",
    "database",
    "tier",
    "stage",
    "view",
    "status",
    "method",
    "job",
)
BOUNDS = ("0.1", "0.5", "1", "+Inf")


class PrometheusDouble:
    """`value` is what every series has; `mode` is data, empty, nan or error.

    `fired` are the parts of a range (from 0 to 1) in which alerts fire, when it is not all of it.
    """

    def __init__(self, mode: str = "data", value: float = 0.5) -> None:
        self.mode, self.value = mode, value
        self.fired: tuple[tuple[float, float], ...] = ((0, 1),)
        self.asked: list[str] = []

    def __enter__(self) -> Self:
        handler = type("Handler", (_Handler,), {"double": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, path: str, asked: dict[str, str]) -> tuple[int, Any]:
        self.asked.append(asked["query"])
        if self.mode == "error":
            return 400, {"status": "error", "errorType": "bad_data", "error": "parse error"}
        ranged = path.endswith("query_range")
        series = (
            [] if self.mode == "empty" else [self._series(asked, name, ranged) for name in self._names(asked)]
        )
        return 200, {
            "status": "success",
            "data": {"resultType": "matrix" if ranged else "vector", "result": series},
        }

    def _names(self, asked: dict[str, str]) -> list[dict[str, str]]:
        if "sum by (le)" in asked["query"] and "quantile" not in asked["query"]:
            return [{"le": bound} for bound in BOUNDS]
        if asked["query"] == "ALERTS":
            return [{"alertname": "Watchdog", "alertstate": "firing", "severity": "info"}]
        return [dict.fromkeys(LABELS, name) for name in ("first", "second $x")]

    def _series(self, asked: dict[str, str], labels: dict[str, str], ranged: bool) -> dict[str, Any]:
        scale = float(labels.get("le", "1").replace("+Inf", "2"))
        value = math.nan if self.mode == "nan" else self.value * scale
        if not ranged:
            return {"metric": labels, "value": [float(asked["time"]), str(value)]}
        start, end, step = (float(asked[key]) for key in ("start", "end", "step"))
        times = [start + index * step for index in range(int((end - start) / step) + 1)]
        if asked["query"].startswith("ALERTS{"):
            times = [at for at in times if any(a <= (at - start) / (end - start) <= b for a, b in self.fired)]
        return {"metric": labels, "values": [[at, str(value)] for at in times]}


class _Handler(BaseHTTPRequestHandler):
    double: PrometheusDouble

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        asked = {key: values[0] for key, values in parse_qs(body).items()}
        status, answer = self.double.answer(self.path, asked)
        payload = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, *_: object) -> None:
        pass
