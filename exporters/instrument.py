"""One line in the application makes the age of waiting messages exact::

    from exporters.instrument import stamp_messages

    stamp_messages()

Every task message then carries the time at which it was published, in a header that Celery ignores. No other module of
the exporter is imported.
"""

import time
from typing import Any

HEADER = "enqueued_at"


def stamp_messages() -> None:
    """Stamp every task message that this process publishes. Calling it again has no effect."""
    # The application has Celery; the exporter itself can run without it.
    from celery.signals import before_task_publish

    before_task_publish.connect(_stamp, weak=False, dispatch_uid="exporters.instrument")


def _stamp(headers: dict[str, Any] | None = None, **_: Any) -> None:
    if headers is not None:
        headers[HEADER] = time.time()
