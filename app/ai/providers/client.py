"""The HTTP client of all providers: time limits, one quick retry, a metric for every attempt."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any, TypeVar
from urllib.parse import urljoin, urlsplit

import requests
from urllib3.exceptions import NewConnectionError

from ai.providers import rpc_status
from ai.providers.base import ProviderError, RefusedError, TryLaterError
from monitoring.metrics import AI_REQUESTS, AI_SECONDS

T = TypeVar("T")

TRIES = 2
PAUSE = 0.5
MAX_PAUSE = 5.0
CHUNK = 64 * 1024
# An image of 20 MiB in base64, and some text.
MAX_BYTES = 32 * 1024 * 1024
REDIRECTS = 3
# Where Google's API sends the readers of files. They get no key.
FILE_HOSTS = (".googleapis.com", ".googleusercontent.com")


class Client:
    """Sends JSON and returns what `read` extracts from the JSON of the response."""

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

    def post(self, path: str, body: dict[str, Any], read: Callable[[Any], T], *, tries: int = TRIES) -> T:
        """Post JSON. `tries=1` is for requests that must not be repeated."""
        return self._tried(lambda: self._understood(read, self._json("POST", path, body)), tries)

    def get(self, path: str, read: Callable[[Any], T]) -> T:
        return self._tried(lambda: self._understood(read, self._json("GET", path)), TRIES)

    @contextmanager
    def download(self, url: str) -> Iterator[Iterator[bytes]]:
        """A file of the provider in pieces. The key is only sent to the API itself."""
        with self._counted(), self._errors(), self._file(url) as response:
            yield response.iter_content(CHUNK)

    def _tried(self, act: Callable[[], T], tries: int) -> T:
        for tries_left in reversed(range(tries)):
            try:
                return self._measured(act)
            except TryLaterError as error:
                pause = PAUSE if error.after is None else error.after
                if not tries_left or pause > MAX_PAUSE:
                    raise
                self._sleep(pause)
        raise AssertionError("unreachable")

    def _measured(self, act: Callable[[], T]) -> T:
        with self._counted(), AI_SECONDS.labels(self._provider).time():
            return act()

    @contextmanager
    def _counted(self) -> Iterator[None]:
        """Count one request by its outcome."""
        outcome = "internal_error"
        try:
            yield
            outcome = "success"
        except ProviderError as error:
            outcome = error.outcome
            raise
        finally:
            AI_REQUESTS.labels(self._provider, outcome).inc()

    def _understood(self, read: Callable[[Any], T], content: Any) -> T:
        """What `read` extracts. A provider may send any JSON, so an error in `read` is not a fault of this app."""
        try:
            return read(content)
        except (LookupError, TypeError, AttributeError, ValueError, OverflowError) as error:
            raise RefusedError(
                f"the response from {self._provider} cannot be read", "invalid_response"
            ) from error

    def _json(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        with self._errors():
            response = self._send(method, self._base_url + path, self._headers, json=body)
            content = self._read(response)
        self._check(response, content)
        try:
            return json.loads(content)
        except (ValueError, RecursionError) as error:
            raise TryLaterError(
                f"the response from {self._provider} is not valid JSON", "invalid_response"
            ) from error

    def _send(self, method: str, url: str, headers: dict[str, str], **more: Any) -> requests.Response:
        return requests.request(
            method, url, headers=headers, timeout=self._timeout, allow_redirects=False, stream=True, **more
        )

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Failures of the connection as our own errors, which never show the address or the key."""
        try:
            yield
        except requests.ConnectTimeout as error:
            raise TryLaterError(f"no connection to {self._provider}", "timeout", ignored=True) from error
        except requests.Timeout as error:
            raise TryLaterError(f"{self._provider} did not answer in time", "timeout") from error
        except requests.RequestException as error:
            raise TryLaterError(
                f"no connection to {self._provider}", "connection_error", ignored=_never_connected(error)
            ) from error

    def _file(self, url: str) -> requests.Response:
        for _ in range(REDIRECTS + 1):
            response = self._send("GET", url, self._headers_for(url))
            if not response.is_redirect:
                if response.status_code != 200:
                    self._check(response, self._read(response))
                return response
            response.close()
            url = urljoin(url, response.headers["Location"])
        raise RefusedError(f"{self._provider} redirects a file too often", "invalid_response")

    def _headers_for(self, url: str) -> dict[str, str]:
        """The headers for a file's address, which comes from a response and so is checked."""
        api, wanted = urlsplit(self._base_url), urlsplit(url)
        if (wanted.scheme, wanted.netloc) == (api.scheme, api.netloc):
            return self._headers
        host = (wanted.hostname or "").lower()
        if api.scheme == wanted.scheme == "https" and wanted.netloc == host and host.endswith(FILE_HOSTS):
            return {}
        raise RefusedError(f"{self._provider} names an unexpected address for a file", "invalid_response")

    def _read(self, response: requests.Response) -> bytes:
        """The body, up to a limit, so that a response cannot fill the worker's memory."""
        content = bytearray()
        with response:
            for chunk in response.iter_content(CHUNK):
                content += chunk
                if len(content) > MAX_BYTES:
                    raise RefusedError(f"the response from {self._provider} is too large", "invalid_response")
        return bytes(content)

    def _check(self, response: requests.Response, content: bytes) -> None:
        code = response.status_code
        message = f"{self._provider} answered {code}"
        after = _retry_after(response, content)
        if code == 429:
            raise TryLaterError(message, "rate_limited", after, ignored=True)
        if (code >= 500 and code != HTTPStatus.NOT_IMPLEMENTED) or code == 408:
            raise TryLaterError(message, "server_error", after)
        if code in (401, 403) or (code == 400 and rpc_status.is_wrong_key(content)):
            raise RefusedError(f"{message}: the API key is not accepted", "unauthorized")
        if code != 200:
            raise RefusedError(message, "rejected")


def _never_connected(error: requests.RequestException) -> bool:
    """Whether no connection was made, so that nothing can have been sent."""
    reason = getattr(error.args[0] if error.args else None, "reason", None)
    return isinstance(reason, NewConnectionError)


def _retry_after(response: requests.Response, content: bytes) -> float | None:
    value = response.headers.get("Retry-After", "")
    return float(value) if value.isdecimal() else rpc_status.retry_delay(content)


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
