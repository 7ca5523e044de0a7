"""A customer requests an image, attaches it to a post and publishes the post, all through the API."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import requests

from sidecar import OpsError
from sidecar.http import session
from stack.demo.traffic import Customer

PROMPT = "a greenhouse at dawn"
Await = Callable[[Callable[[], Any], str], Any]


@dataclass(frozen=True)
class Published:
    """What was made, and how long it took.

    Args:
        asset: the file, as the API describes it.
        changed_link: status of the response to a link whose signature was changed.
        channel_status: state of the post at the end.
    """

    asset: dict[str, Any]
    provider: str
    drawn_seconds: float
    published_seconds: float
    content_type: str
    received_bytes: int
    changed_link: int
    channel_status: str


def publish(api: str, customer: Customer, wait: Await) -> Published:
    """Make the post.

    Raises:
        OpsError: the API refuses a request, or the image fails.
    """
    with session() as client:
        client.headers["Authorization"] = f"Token {customer.token}"
        base = f"{api}/api/v1"
        began = time.monotonic()
        job = _sent(client, "POST", f"{base}/ai/images/", {"prompt": PROMPT})
        done = wait(lambda: _ended(client, f"{base}/ai/jobs/{job['id']}/"), "the image")
        if done["status"] != "succeeded":
            raise OpsError(
                f"the image is {done['status']}: {done['error']}", hint="read the log of worker-ai"
            )
        drawn = time.monotonic()
        asset = done["asset"]
        text = {"channel": customer.channel, "text": f"With {PROMPT}", "media": asset["id"]}
        post = _sent(client, "POST", f"{base}/posts/", text)
        _sent(client, "POST", f"{base}/posts/{post['id']}/publish/", {})
        shown = wait(lambda: _published(client, f"{base}/posts/{post['id']}/"), "the post with its image")
        published = time.monotonic()
    # Without the customer's token: the signature in the link is the permission.
    with session() as anyone:
        file = anyone.get(api + shown["file"]["url"], timeout=30)
        changed = anyone.get(f"{api}{shown['file']['url']}x", timeout=30)
    return Published(
        asset=shown["file"],
        provider=done["provider"],
        drawn_seconds=round(drawn - began, 1),
        published_seconds=round(published - drawn, 1),
        content_type=file.headers.get("Content-Type", ""),
        received_bytes=len(file.content) if file.ok else 0,
        changed_link=changed.status_code,
        channel_status=shown["status"],
    )


def _sent(
    client: requests.Session, method: str, url: str, body: dict[str, Any] | None = None
) -> dict[str, Any]:
    answer = client.request(method, url, json=body, timeout=30)
    if not answer.ok:
        raise OpsError(
            f"{method} {url} was answered with {answer.status_code}", hint="read the log of the API"
        )
    content: dict[str, Any] = answer.json()
    return content


def _ended(client: requests.Session, url: str) -> dict[str, Any] | None:
    job = _sent(client, "GET", url)
    return job if job["finished_at"] else None


def _published(client: requests.Session, url: str) -> dict[str, Any] | None:
    post = _sent(client, "GET", url)
    return post if post["status"] in ("published", "failed") else None
