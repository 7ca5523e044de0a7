"""AI providers by name. A provider is available if its key is set; the sandbox, if the settings allow it."""

from ai.providers.base import Embedder, ProviderError, RefusedError, TextProvider, TryLaterError
from ai.providers.registry import NotConfiguredError, available, embedder, text_provider

__all__ = [
    "Embedder",
    "NotConfiguredError",
    "ProviderError",
    "RefusedError",
    "TextProvider",
    "TryLaterError",
    "available",
    "embedder",
    "text_provider",
]
