"""Checks uploaded and generated images, and makes their thumbnails."""

import io
from dataclasses import dataclass

from PIL import Image

# Formats that every browser shows. The format is read from the bytes; the content type that the sender claims is ignored.
FORMATS = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp"}
MAX_BYTES = 20 * 1024 * 1024
MAX_PIXELS = 40_000_000
THUMBNAIL = (480, 480)
THUMBNAIL_TYPE = "image/jpeg"


class InvalidImageError(Exception):
    """The bytes are not an image that this app accepts. The message says why."""


@dataclass(frozen=True)
class Facts:
    """Properties read from the bytes of an image: its type, and its width and height in pixels."""

    content_type: str
    width: int
    height: int


def inspect(content: bytes) -> tuple[Facts, bytes]:
    """The facts of an image, and its thumbnail as JPEG.

    Raises:
        InvalidImageError: it is too large, of the wrong type, or damaged.
    """
    if len(content) > MAX_BYTES:
        raise InvalidImageError(f"the image has {len(content)} bytes, more than {MAX_BYTES}")
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
    if image.width * image.height > MAX_PIXELS:
        raise InvalidImageError(
            f"the image has {image.width} × {image.height} pixels, more than {MAX_PIXELS}"
        )


def _thumbnail(image: Image.Image) -> bytes:
    image.load()
    small = image.convert("RGB")
    small.thumbnail(THUMBNAIL)
    out = io.BytesIO()
    small.save(out, "JPEG", quality=80)
    return out.getvalue()
