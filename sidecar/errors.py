"""Errors for people: what failed, on what, and what to try."""

# A program may print a statement with the names of thousands of tables; no one reads that, and every copy takes memory.
MAX_CHARACTERS = 1900


def shortened(text: str, most: int = MAX_CHARACTERS) -> str:
    """The beginning and the end of a text that is too long."""
    if len(text) <= most:
        return text
    end = most // 4
    return f"{text[: most - end]} … ({len(text) - most} characters are left out) … {text[-end:]}"


class OpsError(Exception):
    """An operation failed.

    Args:
        message: what failed and on what, without a final full stop.
        hint: what to try next; printed after ``Try:``.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str) -> None:
        self.message = shortened(message)
        super().__init__(self.message)
        self.hint = hint


class UsageError(OpsError):
    """A command or its configuration is wrong; nothing was changed."""

    exit_code = 2
