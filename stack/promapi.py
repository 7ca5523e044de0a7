"""Questions to a Prometheus server."""

from dataclasses import dataclass
from typing import Any

import requests

from sidecar import OpsError
from stack.http import session


@dataclass(frozen=True)
class Sample:
    """One series of an instant query."""

    labels: dict[str, str]
    value: float


class UnansweredError(OpsError):
    """The server gave no answer; the next one may come."""


class PromApi:
    """The HTTP API of one Prometheus server."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._session = session()

    def query(self, expression: str) -> list[Sample]:
        """An instant query.

        Raises:
            UnansweredError: the server does not answer.
            OpsError: it refuses the expression.
        """
        result = self._get("query", query=expression)["result"]
        return [Sample(dict(series["metric"]), float(series["value"][1])) for series in result]

    def value(self, expression: str) -> float | None:
        """The single value of an expression, or None when there is no series."""
        samples = self.query(expression)
        return samples[0].value if samples else None

    def by_label(self, expression: str, label: str) -> dict[str, float]:
        """The values of an expression by one label."""
        return {sample.labels.get(label, ""): sample.value for sample in self.query(expression)}

    def targets(self) -> dict[str, str]:
        """Health (``up``, ``down``, ``unknown``) by job."""
        active = self._get("targets", state="active")["activeTargets"]
        return {target["labels"]["job"]: target["health"] for target in active}

    def alerts(self) -> dict[str, str]:
        """State (``pending``, ``firing``) by alert name."""
        return {alert["labels"]["alertname"]: alert["state"] for alert in self._get("alerts")["alerts"]}

    def _get(self, path: str, **parameters: str) -> Any:
        try:
            answer = self._session.get(f"{self.url}/api/v1/{path}", params=parameters, timeout=10)
            document = answer.json()
        except (requests.RequestException, ValueError) as error:
            raise UnansweredError(
                f"Prometheus at {self.url} does not answer: {type(error).__name__}", hint="read its log"
            ) from None
        if document.get("status") != "success":
            raise OpsError(
                f"Prometheus refused {parameters}: {document.get('error')}", hint="see the expression"
            )
        return document["data"]
