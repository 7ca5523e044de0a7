"""Settings of several words."""

import shlex
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator


def _split(value: Any) -> Any:
    """Split a text at commas and white space."""
    return tuple(value.replace(",", " ").split()) if isinstance(value, str) else value


def _command(value: str | None) -> str | None:
    try:
        words = shlex.split(value or "")
    except ValueError as error:
        raise ValueError(f"not a valid command: {error}") from None
    return value if words else None


Words = Annotated[tuple[str, ...], BeforeValidator(_split)]
# A command, which no shell runs.
CommandLine = Annotated[str | None, AfterValidator(_command)]
