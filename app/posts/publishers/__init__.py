"""Destinations of posts: the customer's webhook, or the sandbox if the settings allow it."""

from posts.publishers.base import NoAnswerError, Publisher, RejectedError, UnreachableError
from posts.publishers.choose import publisher_for

__all__ = ["NoAnswerError", "Publisher", "RejectedError", "UnreachableError", "publisher_for"]
