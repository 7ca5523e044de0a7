"""Settings of several words."""

import re
import shlex
from contextlib import suppress
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator


def _split(value: Any) -> Any:
    """Split a text at commas and white space."""
    return tuple(value.replace(",", " ").split()) if isinstance(value, str) else value


# Unquoted words that users expect a shell to see: `&&`, `|`, `>file`, `stop;`.
_OPERATOR = re.compile(r"[;&|<>]+|\d?>.*|.*[^\\];")


def _operator(command: str) -> str | None:
    lexer = shlex.shlex(command)
    lexer.whitespace_split, lexer.commenters = True, ""
    with suppress(ValueError):
        return next(filter(_OPERATOR.fullmatch, lexer), None)
    return None


def _command(value: str | None) -> str | None:
    try:
        words = shlex.split(value or "")
    except ValueError as error:
        raise ValueError(f"not a valid command: {error}") from None
    if operator := _operator(value or ""):
        raise ValueError(f"no shell runs it, so {operator} is only an argument; use sh -c '…', or a script")
    return value if words else None


Words = Annotated[tuple[str, ...], BeforeValidator(_split)]
# A command, which no shell runs.
CommandLine = Annotated[str | None, AfterValidator(_command)]
