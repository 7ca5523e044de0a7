"""The smallest file that is a valid MP4 video: the boxes of one track, and no pictures. For the sandbox and the tests."""

import struct

SCALE = 1000
# The unity matrix of headers of movies and tracks.
MATRIX = struct.pack(">9i", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)


def mp4(*, seconds: float, width: int, height: int, payload: int = 64) -> bytes:
    """A video of this length and these dimensions, with `payload` bytes in place of its pictures."""
    duration = round(seconds * SCALE)
    movie = struct.pack(">4x2I2IIH10x", 0, 0, SCALE, duration, 0x10000, 0x100) + MATRIX + bytes(24)
    movie += struct.pack(">I", 2)
    track = b"\0\0\0\7" + struct.pack(">5I", 0, 0, 1, 0, duration) + bytes(16) + MATRIX
    track += struct.pack(">2I", width << 16, height << 16)
    moov = box(b"moov", box(b"mvhd", movie) + box(b"trak", box(b"tkhd", track)))
    return box(b"ftyp", b"isom\0\0\2\0isommp42") + moov + box(b"mdat", bytes(payload))


def box(kind: bytes, content: bytes) -> bytes:
    """One box of the format: size, type, content."""
    return struct.pack(">I", 8 + len(content)) + kind + content
