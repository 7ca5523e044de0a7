"""A setting of several words."""

from typing import Annotated, Any

from pydantic import BeforeValidator


def _split(value: Any) -> Any:
    """Split a text at commas and white space."""
    return tuple(value.replace(",", " ").split()) if isinstance(value, str) else value


Words = Annotated[tuple[str, ...], BeforeValidator(_split)]
