"""Logs as JSON. Each line names the request and the task that it belongs to."""

import logging
from contextvars import ContextVar
from typing import Any

from celery import current_task, signals
from pythonjsonlogger.json import JsonFormatter

request_id: ContextVar[str] = ContextVar("request_id", default="")


class ContextFilter(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        request = getattr(current_task, "request", None)
        record.task_id = getattr(record, "task_id", None) or getattr(request, "id", None) or ""
        record.task_name = getattr(current_task, "name", None) or ""
        record.request_id = request_id.get() or getattr(request, "request_id", None) or ""
        return True


def json_formatter() -> logging.Formatter:
    return JsonFormatter(
        "%(levelname)s %(name)s %(message)s %(request_id)s %(task_id)s %(task_name)s",
        rename_fields={"levelname": "level", "name": "logger"},
        timestamp="time",
    )


def connect() -> None:
    signals.before_task_publish.connect(_carry_request_id, dispatch_uid="request_id")


def _carry_request_id(headers: dict[str, Any] | None = None, **_: Any) -> None:
    """Pass the request id on, so that the log lines of all tasks that a request causes can name it."""
    current = request_id.get() or getattr(getattr(current_task, "request", None), "request_id", None)
    if headers is not None and current:
        headers["request_id"] = current
