from typing import Protocol

from posts.models import Post


class RejectedError(Exception):
    """The other side will not take this post, now or later."""


class UnreachableError(Exception):
    """The other side did not answer well; another attempt may succeed."""


class Publisher(Protocol):
    def publish(self, post: Post) -> str:
        """Hand the post over and return the other side's name for it."""
