"""A bridge from the SDK's models to the places where its builders ask for builders."""

from typing import TypeVar

from grafana_foundation_sdk.cog.builder import Builder

T = TypeVar("T")


class Ready(Builder[T]):
    """A finished model that passes for its own builder."""

    def __init__(self, model: T) -> None:
        self._model = model

    def build(self) -> T:
        """Return the model as it was given."""
        return self._model
