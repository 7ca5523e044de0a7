"""Logs as JSON, or as text for people. Each record names the request and the task that it belongs to."""

import logging
import re
from contextvars import ContextVar
from typing import Any

from celery import current_task, signals
from pythonjsonlogger.json import JsonFormatter

request_id: ContextVar[str] = ContextVar("request_id", default="")


class ContextFilter(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        request = getattr(current_task, "request", None)
        about = _about_task(record)
        record.task_id = (
            getattr(record, "task_id", None) or getattr(request, "id", None) or about.get("id", "")
        )
        record.task_name = getattr(current_task, "name", None) or about.get("name", "")
        record.request_id = request_id.get() or getattr(request, "request_id", None) or ""
        return True


def _about_task(record: logging.LogRecord) -> dict[str, Any]:
    """What a record of Celery says about the task that its message names: outside the task, where none is running."""
    data = getattr(record, "data", None)
    if not record.name.startswith("celery.") or not isinstance(data, dict):
        return {}
    # The arguments and the result are the customers', and the traceback is in exc_info.
    record.data = {name: data[name] for name in ("runtime", "eta") if data.get(name) is not None}
    return data


def json_formatter() -> logging.Formatter:
    return JsonFormatter(
        "%(levelname)s %(name)s %(message)s %(request_id)s %(task_id)s %(task_name)s",
        rename_fields={"levelname": "level", "name": "logger"},
        timestamp="time",
    )


class TextFormatter(logging.Formatter):
    """One line for each record, whatever its values contain: none can forge a line or move the cursor. Tracebacks follow."""

    # Control characters except tab, and the separators at which some viewers break lines.
    _CONTROL = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")

    def __init__(self) -> None:
        super().__init__(
            "%(asctime)s %(levelname)s %(name)s %(message)s [request=%(request_id)s task=%(task_id)s]"
        )

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the base class names it
        return self._CONTROL.sub(
            lambda found: found[0].encode("unicode_escape").decode(), super().formatMessage(record)
        )


def connect() -> None:
    signals.before_task_publish.connect(_carry_request_id, dispatch_uid="request_id")


def _carry_request_id(headers: dict[str, Any] | None = None, **_: Any) -> None:
    """Pass the request id on, so that the log lines of all tasks that a request causes can name it."""
    current = request_id.get() or getattr(getattr(current_task, "request", None), "request_id", None)
    if headers is not None and current:
        headers["request_id"] = current
