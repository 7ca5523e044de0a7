from typing import Protocol


class ProviderError(Exception):
    """A provider did not do what it was asked. `outcome` is the label of the metric."""

    def __init__(self, message: str, outcome: str) -> None:
        super().__init__(message)
        self.outcome = outcome


class TryLaterError(ProviderError):
    """It may go well another time; `after` seconds if the provider said when."""

    def __init__(self, message: str, outcome: str, after: float | None = None) -> None:
        super().__init__(message, outcome)
        self.after = after


class RefusedError(ProviderError):
    """Asking again would bring the same answer."""


class TextProvider(Protocol):
    name: str

    def write(self, instruction: str, prompt: str) -> str: ...


class Embedder(Protocol):
    name: str

    def embed(self, text: str) -> list[float]: ...
