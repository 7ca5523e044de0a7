"""Asks a Prometheus what a panel would ask it."""

from dataclasses import dataclass
from typing import Any

import requests

from dashboards.address import checked, shown
from sidecar.errors import OpsError

TIMEOUT = 30


@dataclass(frozen=True)
class Series:
    """One series of an answer: its labels and its samples (one for an instant query)."""

    labels: dict[str, str]
    times: tuple[float, ...]
    values: tuple[float, ...]

    @property
    def last(self) -> float:
        """The newest value."""
        return self.values[-1]


class Prometheus:
    """A Prometheus by its address."""

    def __init__(self, url: str) -> None:
        self._url = checked(url, "Prometheus", "--prometheus-url http://127.0.0.1:9090")
        self._session = requests.Session()

    @property
    def shown(self) -> str:
        """Its address as it may be shown."""
        return shown(self._url)

    def instant(self, expr: str, at: float) -> list[Series]:
        """Return the value of every series at one moment."""
        return [
            _series(one["metric"], [one["value"]]) for one in self._ask("query", query=expr, time=f"{at:.3f}")
        ]

    def range(self, expr: str, start: float, end: float, step: float) -> list[Series]:
        """Return every series over time."""
        asked = {"query": expr, "start": f"{start:.3f}", "end": f"{end:.3f}", "step": f"{step:g}"}
        return [_series(one["metric"], one["values"]) for one in self._ask("query_range", **asked)]

    def _ask(self, what: str, **asked: str) -> list[dict[str, Any]]:
        try:
            answer = self._session.post(f"{self._url}/api/v1/{what}", data=asked, timeout=TIMEOUT)
            body = answer.json()
        except requests.RequestException as error:
            raise OpsError(
                f"Prometheus at {self.shown} does not answer ({type(error).__name__})",
                hint="check --prometheus-url, and that Prometheus runs",
            ) from error
        if body.get("status") != "success":
            raise OpsError(
                f"Prometheus refused {asked['query']}: {body.get('error', answer.status_code)}",
                hint="./ops dashboards check",
            )
        return _vectors(body["data"])


def _vectors(data: dict[str, Any]) -> list[dict[str, Any]]:
    if data["resultType"] == "scalar":
        return [{"metric": {}, "value": data["result"]}]
    found: list[dict[str, Any]] = data["result"]
    return found


def _series(labels: dict[str, str], samples: list[list[Any]]) -> Series:
    return Series(labels, tuple(float(at) for at, _ in samples), tuple(float(value) for _, value in samples))
