"""Posts to the customer's webhook, signed, with a key by which the receiver recognises a second delivery."""

import hashlib
import hmac
import json
import logging
from typing import Any

import requests

from monitoring.metrics import WEBHOOK_SECONDS
from posts.models import Post
from posts.publishers.addresses import ForbiddenAddressError, GuardedAdapter
from posts.publishers.base import RejectedError, UnreachableError

log = logging.getLogger(__name__)

MAX_ANSWER = 64 * 1024
TRY_AGAIN = {408, 425, 429}


class WebhookPublisher:
    def __init__(
        self, *, url: str, secret: str, timeout: float, allow_private: bool, allow_http: bool
    ) -> None:
        self._url, self._secret, self._timeout = url, secret, timeout
        self._allow_private, self._allow_http = allow_private, allow_http

    def publish(self, post: Post) -> str:
        schemes = ("https://", "http://") if self._allow_http else ("https://",)
        if not self._url.lower().startswith(schemes):
            raise RejectedError("the channel's webhook address must begin with " + " or ".join(schemes))
        with WEBHOOK_SECONDS.time(), self._session() as session:
            return self._send(session, post)

    def _session(self) -> requests.Session:
        session = requests.Session()
        # No proxy and no .netrc: the address that was checked must be the one that is connected to.
        session.trust_env = False
        adapter = GuardedAdapter(allow_private=self._allow_private)
        session.mount("https://", adapter)
        session.mount("http://", adapter)
        return session

    def _send(self, session: requests.Session, post: Post) -> str:
        body = json.dumps({"id": str(post.pk), "channel": post.channel.name, "text": post.text}).encode()
        try:
            with session.post(
                self._url,
                data=body,
                headers=self._headers(post, body),
                timeout=self._timeout,
                allow_redirects=False,
                stream=True,
            ) as answer:
                return self._outcome(answer, post)
        except ForbiddenAddressError as error:
            raise RejectedError("the webhook's address is not public") from error
        except requests.RequestException as error:
            raise self._meaning(error) from error

    def _headers(self, post: Post, body: bytes) -> dict[str, str]:
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "PostHub-Webhook/1",
            "Idempotency-Key": str(post.pk),
        }
        if self._secret:
            headers["X-PostHub-Signature"] = (
                "sha256=" + hmac.digest(self._secret.encode(), body, hashlib.sha256).hex()
            )
        return headers

    @staticmethod
    def _outcome(answer: requests.Response, post: Post) -> str:
        if answer.ok and not answer.is_redirect:
            return _external_id(answer) or str(post.pk)
        message = f"the webhook answered {answer.status_code}"
        if answer.status_code >= 500 or answer.status_code in TRY_AGAIN:
            raise UnreachableError(message)
        raise RejectedError(message)

    @staticmethod
    def _meaning(error: requests.RequestException) -> Exception:
        if isinstance(error, requests.Timeout):
            return UnreachableError("the webhook did not answer in time")
        if isinstance(error, (requests.ConnectionError, requests.exceptions.ChunkedEncodingError)):
            return UnreachableError("no connection to the webhook")
        return RejectedError(f"the webhook cannot be called ({type(error).__name__})")


def _external_id(answer: requests.Response) -> str:
    try:
        content: Any = json.loads(answer.raw.read(MAX_ANSWER, decode_content=True))
    except (ValueError, OSError):
        return ""
    return str(content.get("id", ""))[:200] if isinstance(content, dict) else ""
