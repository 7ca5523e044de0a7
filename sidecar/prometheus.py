"""A client of Prometheus' HTTP API: queries, targets and alerts."""

from dataclasses import dataclass
from typing import Any

import requests

from sidecar import http
from sidecar.address import checked, shown
from sidecar.errors import OpsError

TIMEOUT_SECONDS = 30


@dataclass(frozen=True)
class Series:
    """One series of a reply: its labels, and its samples (one for an instant query).

    Attributes:
        times: seconds since the epoch, oldest first.
        values: the sample at each of these times.
    """

    labels: dict[str, str]
    times: tuple[float, ...]
    values: tuple[float, ...]

    @property
    def last(self) -> float:
        """The newest value."""
        return self.values[-1]


class NoReplyError(OpsError):
    """The server does not reply, or its reply is not Prometheus's. A later call may succeed."""


class Prometheus:
    """One Prometheus server.

    Args:
        url: its root address.

    Raises:
        UsageError: the address is not an HTTP URL.
    """

    def __init__(self, url: str) -> None:
        self._url = checked(url, "Prometheus", "--prometheus-url http://127.0.0.1:9090")
        self._session = http.session()

    @property
    def shown(self) -> str:
        """Its address without credentials."""
        return shown(self._url)

    def instant(self, expr: str, at: float | None = None) -> list[Series]:
        """Return the value of every series at one moment.

        Args:
            at: seconds since the epoch; now by default.

        Raises:
            NoReplyError: the server does not reply.
            OpsError: it refuses the expression.
        """
        time = {} if at is None else {"time": f"{at:.3f}"}
        return [
            _series(sample["metric"], [sample["value"]])
            for sample in _vectors(self._query("query", expr, **time))
        ]

    def range(self, expr: str, start: float, end: float, step: float) -> list[Series]:
        """Return every series over time; all times in seconds. Raises as :meth:`instant` does."""
        times = {"start": f"{start:.3f}", "end": f"{end:.3f}", "step": f"{step:g}"}
        found = _vectors(self._query("query_range", expr, **times))
        return [_series(series["metric"], series["values"]) for series in found]

    def value(self, expr: str) -> float | None:
        """Return the single value of an expression, or None if there is no series."""
        found = self.instant(expr)
        return found[0].last if found else None

    def by_label(self, expr: str, label: str) -> dict[str, float]:
        """Return the values of an expression by one of its labels."""
        return {series.labels.get(label, ""): series.last for series in self.instant(expr)}

    def targets(self) -> dict[str, str]:
        """Return the health of the active targets (``up``, ``down``, ``unknown``) by job.

        A job with several targets is as healthy as the worst of them.
        """
        worst = ("down", "unknown", "up")
        health: dict[str, str] = {}
        for target in self._ask("GET", "targets", {"state": "active"})["activeTargets"]:
            job = target["labels"]["job"]
            health[job] = min(target["health"], health.get(job, "up"), key=worst.index)
        return health

    def alerts(self) -> dict[str, str]:
        """Return the state (``pending``, ``firing``) by alert name; ``firing`` if any alert of that name fires."""
        found = sorted(
            self._ask("GET", "alerts", {})["alerts"], key=lambda alert: alert["state"], reverse=True
        )
        return {alert["labels"]["alertname"]: alert["state"] for alert in found}

    def _query(self, path: str, expr: str, **more: str) -> Any:
        return self._ask("POST", path, {"query": expr, **more})

    def _ask(self, method: str, path: str, asked: dict[str, str]) -> Any:
        url = f"{self._url}/api/v1/{path}"
        try:
            if method == "POST":
                answer = self._session.post(url, data=asked, timeout=TIMEOUT_SECONDS)
            else:
                answer = self._session.get(url, params=asked, timeout=TIMEOUT_SECONDS)
            body = answer.json()
        except (requests.RequestException, ValueError) as error:
            raise NoReplyError(
                f"Prometheus at {self.shown} does not answer ({type(error).__name__})",
                hint="check the address (--prometheus-url), and that Prometheus runs",
            ) from error
        if not isinstance(body, dict) or body.get("status") != "success":
            raise self._refused(answer, body, asked.get("query", path))
        return body["data"]

    def _refused(self, answer: requests.Response, body: Any, what: str) -> OpsError:
        if isinstance(body, dict) and body.get("status") == "error":
            return OpsError(
                f"Prometheus refused {what}: {body.get('error', answer.status_code)}",
                hint="./ops dashboards check",
            )
        return NoReplyError(
            f"{self.shown} does not answer as Prometheus does (HTTP {answer.status_code})",
            hint="check the address (--prometheus-url)",
        )


def _vectors(data: dict[str, Any]) -> list[dict[str, Any]]:
    if data["resultType"] == "scalar":
        return [{"metric": {}, "value": data["result"]}]
    found: list[dict[str, Any]] = data["result"]
    return found


def _series(labels: dict[str, str], samples: list[list[Any]]) -> Series:
    return Series(labels, tuple(float(at) for at, _ in samples), tuple(float(value) for _, value in samples))
