"""Memory that is free goes back to the system."""

import ctypes
import logging

log = logging.getLogger(__name__)


def trim() -> None:
    """Give back what the C library keeps after a burst; where it cannot, nothing happens."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError):
        log.debug("this C library has no malloc_trim")
