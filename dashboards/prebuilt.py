"""Adapter that passes finished models to SDK builders that expect builders."""

from typing import TypeVar

from grafana_foundation_sdk.cog.builder import Builder

T = TypeVar("T")


class Prebuilt(Builder[T]):
    """A finished model in place of its builder."""

    def __init__(self, model: T) -> None:
        self._model = model

    def build(self) -> T:
        """Return the model."""
        return self._model
