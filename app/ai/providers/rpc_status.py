"""Details of Google's errors: google.rpc.Status in the body (https://cloud.google.com/apis/design/errors, November 2026).

Google names a wrong key only there, because it returns 400, and sends no `Retry-After`. Other providers' bodies have none of
these details.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

DELAY = re.compile(r"\d{1,9}(\.\d{1,9})?s")


def is_wrong_key(body: bytes) -> bool:
    return any(detail.get("reason") == "API_KEY_INVALID" for detail in _details(body))


def retry_delay(body: bytes) -> float | None:
    """The seconds after which the provider wants to be asked again, from a google.rpc.RetryInfo."""
    delays = (str(detail.get("retryDelay", "")) for detail in _details(body))
    return next((float(delay[:-1]) for delay in delays if DELAY.fullmatch(delay)), None)


def _details(body: bytes) -> Iterator[dict[str, Any]]:
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return
    # An error of a request for a stream is in a list.
    first = content[0] if isinstance(content, list) and content else content
    error = first.get("error") if isinstance(first, dict) else None
    details = error.get("details") if isinstance(error, dict) else None
    yield from (
        (detail for detail in details or () if isinstance(detail, dict)) if isinstance(details, list) else ()
    )
