"""Time ranges as people write them: 30m, 6h, 7d."""

import re

from sidecar.errors import UsageError

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def seconds(text: str) -> float:
    """Return the length of a range such as `1h`."""
    found = re.fullmatch(r"(\d+)([smhdw])", text)
    if not found or not int(found[1]):
        raise UsageError(f"{text!r} is not a time range", hint="--range 30m, 1h, 6h or 7d")
    return float(int(found[1]) * _SECONDS[found[2]])
