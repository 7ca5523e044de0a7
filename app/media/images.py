"""Checking images that come from outside, and making their thumbnails."""

import io
from dataclasses import dataclass

from PIL import Image

# Formats that every browser shows. The format is read from the bytes; what the sender calls it does not matter.
FORMATS = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp"}
MOST_BYTES = 20 * 1024 * 1024
MOST_PIXELS = 40_000_000
THUMBNAIL = (480, 480)
THUMBNAIL_TYPE = "image/jpeg"


class InvalidImageError(Exception):
    """The bytes are not an image that this app accepts. The message says why."""


@dataclass(frozen=True)
class Facts:
    """What the bytes of an image say about it: type, and width and height in pixels."""

    content_type: str
    width: int
    height: int


def inspect(content: bytes) -> tuple[Facts, bytes]:
    """The facts of an image, and its thumbnail as JPEG.

    Raises:
        InvalidImageError: it is too large, of another type, or damaged.
    """
    if len(content) > MOST_BYTES:
        raise InvalidImageError(f"the image has {len(content)} bytes, more than {MOST_BYTES}")
    try:
        with Image.open(io.BytesIO(content), formats=list(FORMATS)) as image:
            _check_size(image)
            facts = Facts(FORMATS[str(image.format)], image.width, image.height)
            return facts, _thumbnail(image)
    # Pillow's decoders raise these for damaged files.
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise InvalidImageError("the image is damaged, or is not PNG, JPEG or WebP") from error


def _check_size(image: Image.Image) -> None:
    """Before anything is decoded: a small file can contain a huge image."""
    if image.width * image.height > MOST_PIXELS:
        raise InvalidImageError(
            f"the image has {image.width} × {image.height} pixels, more than {MOST_PIXELS}"
        )


def _thumbnail(image: Image.Image) -> bytes:
    image.load()
    small = image.convert("RGB")
    small.thumbnail(THUMBNAIL)
    out = io.BytesIO()
    small.save(out, "JPEG", quality=80)
    return out.getvalue()
