"""Small pieces of WAL as they are stored: compressed, encrypted, and named by what they contain."""

import hashlib
import io
from dataclasses import dataclass

import zstandard

from backup.pipeline import PackingOptions
from backup.pipeline.encrypt import encrypt


@dataclass(frozen=True)
class Packed:
    """Stored bytes, and the SHA-256 of the plain ones in hexadecimal digits."""

    data: bytes
    sha256: str


def pack(data: bytes | bytearray, packing: PackingOptions) -> Packed:
    """Compress and encrypt bytes that are completely in memory.

    The plain bytes are not needed once they are compressed. A caller that keeps no reference saves their memory.
    """
    sha256 = hashlib.sha256(data).hexdigest()
    compressed = zstandard.ZstdCompressor(level=packing.level, write_checksum=True).compress(data)
    del data
    sealed = io.BytesIO()
    encrypt(io.BytesIO(compressed), sealed, packing.recipients)
    return Packed(sealed.getvalue(), sha256)
