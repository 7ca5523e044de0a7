"""The HTTP client of all providers: time limits, one quick retry, a metric for every attempt."""

import json
import time
from collections.abc import Callable
from typing import Any, TypeVar

import requests

from ai.providers.base import ProviderError, RefusedError, TryLaterError
from monitoring.metrics import AI_REQUESTS, AI_SECONDS

T = TypeVar("T")

TRIES = 2
PAUSE = 0.5
MAX_PAUSE = 5.0
CHUNK = 64 * 1024
# An image of 20 MiB in base64, and some text.
MAX_BYTES = 32 * 1024 * 1024


class Client:
    """Posts JSON and returns what `read` extracts from the JSON of the response."""

    def __init__(
        self,
        provider: str,
        base_url: str,
        headers: dict[str, str],
        timeout: float,
        *,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._provider, self._base_url, self._headers = provider, base_url.rstrip("/"), headers
        self._timeout = (min(timeout, 5.0), timeout)
        self._sleep = sleep

    def post(self, path: str, body: dict[str, Any], read: Callable[[Any], T]) -> T:
        for tries_left in reversed(range(TRIES)):
            try:
                return self._measured(path, body, read)
            except TryLaterError as error:
                pause = PAUSE if error.after is None else error.after
                if not tries_left or pause > MAX_PAUSE:
                    raise
                self._sleep(pause)
        raise AssertionError("unreachable")

    def _measured(self, path: str, body: dict[str, Any], read: Callable[[Any], T]) -> T:
        outcome = "internal_error"
        try:
            with AI_SECONDS.labels(self._provider).time():
                result = read(self._json(path, body))
            outcome = "success"
        except ProviderError as error:
            outcome = error.outcome
            raise
        finally:
            AI_REQUESTS.labels(self._provider, outcome).inc()
        return result

    def _json(self, path: str, body: dict[str, Any]) -> Any:
        try:
            response = requests.post(
                self._base_url + path,
                json=body,
                headers=self._headers,
                timeout=self._timeout,
                allow_redirects=False,
                stream=True,
            )
            content = self._read(response)
        except requests.Timeout as error:
            raise TryLaterError(f"{self._provider} did not answer in time", "timeout") from error
        except requests.RequestException as error:
            raise TryLaterError(f"no connection to {self._provider}", "connection_error") from error
        self._check(response)
        try:
            return json.loads(content)
        except (ValueError, RecursionError) as error:
            raise TryLaterError(
                f"the response from {self._provider} is not valid JSON", "invalid_response"
            ) from error

    def _read(self, response: requests.Response) -> bytes:
        """The body, up to a limit, so that a response cannot fill the worker's memory."""
        content = bytearray()
        with response:
            for chunk in response.iter_content(CHUNK):
                content += chunk
                if len(content) > MAX_BYTES:
                    raise RefusedError(f"the response from {self._provider} is too large", "invalid_response")
        return bytes(content)

    def _check(self, response: requests.Response) -> None:
        code = response.status_code
        message = f"{self._provider} answered {code}"
        if code == 429:
            raise TryLaterError(message, "rate_limited", _retry_after(response))
        if code >= 500 or code == 408:
            raise TryLaterError(message, "server_error", _retry_after(response))
        if code in (401, 403):
            raise RefusedError(f"{message}: the API key is not accepted", "unauthorized")
        if code != 200:
            raise RefusedError(message, "rejected")


def _retry_after(response: requests.Response) -> float | None:
    value = response.headers.get("Retry-After", "")
    return float(value) if value.isdigit() else None


def dig(content: Any, *path: str | int) -> Any:
    """A value deep inside a response.

    Raises:
        RefusedError: the response has no such value.
    """
    for step in path:
        try:
            content = content[step]
        except (KeyError, IndexError, TypeError):
            where = ".".join(map(str, path))
            raise RefusedError(f"the response has no {where}", "invalid_response") from None
    return content
