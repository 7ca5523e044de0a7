"""Instant queries to Prometheus."""

from typing import Any

import requests

TIMEOUT = 3.0


class NoAnswerError(Exception):
    """Prometheus does not answer, or its response is invalid."""


def by_label(url: str, expression: str, label: str) -> dict[str, float]:
    """The values of an expression by one of its labels."""
    series = _ask(url, expression)
    return {str(sample["metric"].get(label, "")): float(sample["value"][1]) for sample in series}


def _ask(url: str, expression: str) -> list[dict[str, Any]]:
    try:
        # Prometheus is on the internal network; a proxy in the environment is for external addresses.
        with requests.Session() as session:
            session.trust_env = False
            answer = session.get(
                f"{url.rstrip('/')}/api/v1/query", params={"query": expression}, timeout=TIMEOUT
            )
            document = answer.json()
            if document["status"] != "success":
                raise NoAnswerError(str(document.get("error")))
            result: list[dict[str, Any]] = document["data"]["result"]
            return result
    except (requests.RequestException, ValueError, KeyError, TypeError) as error:
        raise NoAnswerError(type(error).__name__) from error
