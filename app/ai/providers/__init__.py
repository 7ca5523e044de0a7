"""AI providers by name. Which ones exist depends on the keys; the sandbox on the settings allowing it."""

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
