"""Stands in for a social network, for development and the demo. The text may ask for a failure."""

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
            raise RejectedError("the sandbox was asked to reject this post")
        if "[sandbox:unreachable]" in post.text:
            raise UnreachableError("the sandbox was asked not to answer")
        return "sandbox-" + hashlib.sha256(str(post.pk).encode()).hexdigest()[:16]
