"""Errors for people: what failed, on what, and what to try."""


class OpsError(Exception):
    """An operation failed.

    Args:
        message: what failed and on what, without a final full stop.
        hint: what to try next; printed after ``Try:``.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(OpsError):
    """A command or its configuration is wrong; nothing was changed."""

    exit_code = 2
