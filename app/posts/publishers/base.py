from typing import Protocol

from posts.models import Post


class RejectedError(Exception):
    """The receiver rejects this post, and would reject it again."""


class UnreachableError(Exception):
    """The receiver could not be reached or failed. Another attempt may succeed."""


class NoAnswerError(UnreachableError):
    """The receiver did not answer at all, or not in time."""


class Publisher(Protocol):
    def publish(self, post: Post) -> str:
        """Deliver the post and return the receiver's id for it.

        Raises:
            RejectedError: the receiver rejects the post permanently.
            UnreachableError: another attempt may succeed.
        """
