"""Posts to the customer's webhook, signed, with a key by which the receiver recognises a second delivery."""

import hashlib
import hmac
import json
import logging
from typing import Any
from urllib.parse import urlsplit

import requests
from urllib3.exceptions import HTTPError

from media import links
from monitoring.metrics import WEBHOOK_SECONDS
from posts.models import Post
from posts.publishers.addresses import Deadline, ForbiddenAddressError, GuardedAdapter
from posts.publishers.base import NoAnswerError, RejectedError, UnreachableError

log = logging.getLogger(__name__)

MAX_ANSWER = 64 * 1024
LATE = "the webhook did not answer in time"
TRY_AGAIN = {408, 425, 429}
# Below 1024, only web ports: a webhook must not connect to mail servers and the like.
WEB_PORTS = (80, 443)
FIRST_FREE_PORT = 1024


class WebhookPublisher:
    """Publishes to a webhook within `timeout` seconds in total: resolving, connecting, sending and reading."""

    def __init__(
        self, *, url: str, secret: str, timeout: float, allow_private: bool, allow_http: bool
    ) -> None:
        self._url, self._secret, self._timeout = url, secret, timeout
        self._allow_private, self._allow_http = allow_private, allow_http

    def publish(self, post: Post) -> str:
        self._check_url()
        with (
            WEBHOOK_SECONDS.time(),
            Deadline(self._timeout) as deadline,
            self._session(deadline) as session,
        ):
            return self._send(session, deadline, post)

    def _check_url(self) -> None:
        schemes = ("https://", "http://") if self._allow_http else ("https://",)
        if not self._url.lower().startswith(schemes):
            raise RejectedError("the channel's webhook address must begin with " + " or ".join(schemes))
        try:
            port = urlsplit(self._url).port
        except ValueError:
            raise RejectedError("the webhook's address is not valid") from None
        if port is not None and port < FIRST_FREE_PORT and port not in WEB_PORTS:
            raise RejectedError(f"the webhook's port {port} is not allowed")

    def _session(self, deadline: Deadline) -> requests.Session:
        session = requests.Session()
        # No proxy and no .netrc: the address that was checked must be the one that is connected to.
        session.trust_env = False
        adapter = GuardedAdapter(deadline=deadline, allow_private=self._allow_private)
        session.mount("https://", adapter)
        session.mount("http://", adapter)
        return session

    def _send(self, session: requests.Session, deadline: Deadline, post: Post) -> str:
        body = json.dumps(_content(post)).encode()
        try:
            with session.post(
                self._url,
                data=body,
                headers=self._headers(post, body),
                timeout=self._timeout,
                allow_redirects=False,
                stream=True,
            ) as answer:
                if (
                    deadline.passed
                ):  # the connection was cut off within the headers, which looks like their end
                    raise NoAnswerError(LATE)
                return self._outcome(answer, post)
        except ForbiddenAddressError as error:
            raise RejectedError("the webhook's address is not public") from error
        except requests.RequestException as error:
            raise self._meaning(error, deadline) from error

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
    def _meaning(error: requests.RequestException, deadline: Deadline) -> Exception:
        if deadline.passed or isinstance(error, requests.Timeout):
            return NoAnswerError(LATE)
        if isinstance(error, (requests.ConnectionError, requests.exceptions.ChunkedEncodingError)):
            return NoAnswerError("no connection to the webhook")
        return RejectedError(f"the webhook cannot be called ({type(error).__name__})")


def _content(post: Post) -> dict[str, Any]:
    content: dict[str, Any] = {"id": str(post.pk), "channel": post.channel.name, "text": post.text}
    if post.media is not None:
        content["media"] = {
            "url": links.absolute(post.media, links.ORIGINAL),
            "content_type": post.media.content_type,
            "width": post.media.width,
            "height": post.media.height,
            "size": post.media.size,
            "sha256": post.media.digest,
        }
    return content


def _external_id(answer: requests.Response) -> str:
    """The receiver's id. A body that is cut off, late or not JSON has none; the status alone accepts the post."""
    try:
        content: Any = json.loads(answer.raw.read(MAX_ANSWER, decode_content=True))
    except (ValueError, OSError, HTTPError, RecursionError):
        return ""
    return str(content.get("id", ""))[:200] if isinstance(content, dict) else ""
