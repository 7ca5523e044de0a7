"""Replaces a social network in development and in the demo. The text of a post may request a failure."""

import hashlib
import time

from posts.models import Post
from posts.publishers.base import RejectedError, UnreachableError


class SandboxPublisher:
    def __init__(self, *, latency: float = 0) -> None:
        self._latency = latency

    def publish(self, post: Post) -> str:
        time.sleep(self._latency)
        if "[sandbox:reject]" in post.text:
            raise RejectedError("the post asked the sandbox to reject it")
        if "[sandbox:unreachable]" in post.text:
            raise UnreachableError("the post asked the sandbox not to answer")
        return "sandbox-" + hashlib.sha256(str(post.pk).encode()).hexdigest()[:16]
