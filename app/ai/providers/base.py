from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Protocol


class ProviderError(Exception):
    """A request to a provider failed. `outcome` is the label of the metric."""

    def __init__(self, message: str, outcome: str) -> None:
        super().__init__(message)
        self.outcome = outcome


class TryLaterError(ProviderError):
    """A later attempt may succeed, after `after` seconds if the provider said so.

    `ignored` means that the provider has certainly not acted on the request: it was not sent, or was turned away.
    """

    def __init__(
        self, message: str, outcome: str, after: float | None = None, *, ignored: bool = False
    ) -> None:
        super().__init__(message, outcome)
        self.after, self.ignored = after, ignored


class RefusedError(ProviderError):
    """The provider refuses the request. Another attempt would get the same answer."""


class UncertainError(ProviderError):
    """The provider may or may not have acted on the request. Repeating it could have its effect, and its price, twice."""


class TextProvider(Protocol):
    name: str

    def write(self, instruction: str, prompt: str) -> str: ...


class ImageProvider(Protocol):
    name: str

    def draw(self, prompt: str) -> bytes:
        """An image file. The caller checks its type and size."""


class VideoProvider(Protocol):
    """Makes videos by operations that run for minutes at the provider."""

    name: str

    def start(self, prompt: str, seconds: int) -> str:
        """Start one operation, and return its name.

        Raises:
            TryLaterError, RefusedError: none was started.
            UncertainError: it is not known whether one was started.
        """

    def operations(self) -> set[str] | None:
        """The names of all operations that the provider lists; None if it lists none.

        Raises:
            RefusedError, TryLaterError: it does not answer with a list.
        """

    def poll(self, operation: str) -> str | None:
        """The address of the finished video; None while the operation runs.

        Raises:
            RefusedError: the operation has ended without a video, or does not exist.
            TryLaterError: another attempt may succeed.
        """

    def download(self, address: str) -> AbstractContextManager[Iterator[bytes]]:
        """The video in pieces. The caller checks its type and size. Raises the same errors, even while reading."""


class Embedder(Protocol):
    name: str

    def embed(self, text: str) -> list[float]: ...
