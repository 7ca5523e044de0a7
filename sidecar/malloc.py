"""Makes the C library return free memory to the system."""

import ctypes
import logging

log = logging.getLogger(__name__)

# From malloc.h; the default threshold grows up to 32 MiB, and blocks below it stay with the process.
_M_MMAP_THRESHOLD = -3
_LARGE_BYTES = 1 << 20


def trim() -> None:
    """Return the memory that the C library keeps after a burst; does nothing if that is not supported."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError):
        log.debug("this C library has no malloc_trim")


def return_large_blocks() -> None:
    """Return each large block as soon as it is free, instead of keeping it for later; call it once, at the start."""
    try:
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
    except (AttributeError, OSError):
        log.debug("this C library has no mallopt")
