from typing import Protocol


class ProviderError(Exception):
    """A request to a provider failed. `outcome` is the label of the metric."""

    def __init__(self, message: str, outcome: str) -> None:
        super().__init__(message)
        self.outcome = outcome


class TryLaterError(ProviderError):
    """A later attempt may succeed, after `after` seconds if the provider said so."""

    def __init__(self, message: str, outcome: str, after: float | None = None) -> None:
        super().__init__(message, outcome)
        self.after = after


class RefusedError(ProviderError):
    """The provider refuses the request. Another attempt would get the same answer."""


class TextProvider(Protocol):
    name: str

    def write(self, instruction: str, prompt: str) -> str: ...


class ImageProvider(Protocol):
    name: str

    def draw(self, prompt: str) -> bytes:
        """An image file. The caller checks its type and size."""


class Embedder(Protocol):
    name: str

    def embed(self, text: str) -> list[float]: ...
