"""AI providers by name. A provider is available if its key is set; the sandbox, if the settings allow it."""

from ai.providers.base import (
    Embedder,
    ImageProvider,
    ProviderError,
    RefusedError,
    TextProvider,
    TryLaterError,
    UncertainError,
    VideoProvider,
)
from ai.providers.registry import (
    NotConfiguredError,
    available,
    embedder,
    image_provider,
    image_provider_name,
    text_provider,
    video_provider,
    video_provider_name,
)

__all__ = [
    "Embedder",
    "ImageProvider",
    "NotConfiguredError",
    "ProviderError",
    "RefusedError",
    "TextProvider",
    "TryLaterError",
    "UncertainError",
    "VideoProvider",
    "available",
    "embedder",
    "image_provider",
    "image_provider_name",
    "text_provider",
    "video_provider",
    "video_provider_name",
]
