from django.conf import settings

from ai.providers.base import Embedder, ImageProvider, TextProvider, VideoProvider
from ai.providers.gemini import Gemini
from ai.providers.perplexity import Perplexity
from ai.providers.sandbox import Sandbox
from posts.models import EMBEDDING_DIMENSIONS


class NotConfiguredError(Exception):
    """No provider with that name is configured, or none at all."""


def available() -> list[str]:
    """Names of the providers that write text, the preferred one first."""
    found = [
        name
        for name, key in (("gemini", settings.GEMINI_API_KEY), ("perplexity", settings.PERPLEXITY_API_KEY))
        if key
    ]
    if settings.SANDBOX_ALLOWED:
        found.append("sandbox")
    return found


def text_provider(name: str) -> TextProvider:
    if name not in available():
        raise NotConfiguredError(f"the AI provider {name!r} is not configured")
    if name == "gemini":
        return _gemini()
    return _perplexity() if name == "perplexity" else _sandbox()


def image_provider_name() -> str | None:
    """The provider that draws images, if there is one."""
    if settings.NANOBANA_API_KEY or settings.GEMINI_API_KEY:
        return "gemini"
    return "sandbox" if settings.SANDBOX_ALLOWED else None


def image_provider(name: str) -> ImageProvider:
    if name != image_provider_name():
        raise NotConfiguredError(f"the AI provider {name!r} for images is not configured")
    return _sandbox() if name == "sandbox" else _gemini(settings.NANOBANA_API_KEY)


def video_provider_name() -> str | None:
    """The provider that makes videos, if there is one."""
    if settings.VEO_API_KEY or settings.GEMINI_API_KEY:
        return "gemini"
    return "sandbox" if settings.SANDBOX_ALLOWED else None


def video_provider(name: str) -> VideoProvider:
    if name != video_provider_name():
        raise NotConfiguredError(f"the AI provider {name!r} for videos is not configured")
    return _sandbox() if name == "sandbox" else _gemini(settings.VEO_API_KEY)


def embedder() -> Embedder:
    if "gemini" in available():
        return _gemini()
    if "sandbox" in available():
        return _sandbox()
    raise NotConfiguredError("no AI provider for embeddings is configured")


def _gemini(key: str = "") -> Gemini:
    return Gemini(
        key or settings.GEMINI_API_KEY,
        base_url=settings.GEMINI_API_URL,
        model=settings.GEMINI_MODEL,
        embedding_model=settings.GEMINI_EMBEDDING_MODEL,
        image_model=settings.GEMINI_IMAGE_MODEL,
        video_model=settings.GEMINI_VIDEO_MODEL,
        dimensions=EMBEDDING_DIMENSIONS,
        timeout=settings.AI_TIMEOUT,
    )


def _perplexity() -> Perplexity:
    return Perplexity(
        settings.PERPLEXITY_API_KEY,
        base_url=settings.PERPLEXITY_API_URL,
        model=settings.PERPLEXITY_MODEL,
        timeout=settings.AI_TIMEOUT,
    )


def _sandbox() -> Sandbox:
    return Sandbox(dimensions=EMBEDDING_DIMENSIONS, latency=settings.SANDBOX_LATENCY)
