"""Returns free memory to the system."""

import ctypes
import logging

log = logging.getLogger(__name__)


def trim() -> None:
    """Return the memory that the C library keeps after a burst; does nothing if that is not supported."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError):
        log.debug("this C library has no malloc_trim")
