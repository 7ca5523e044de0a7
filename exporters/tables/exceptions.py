"""The exception class that a task-failed event names."""

import re
from typing import Any

from exporters.exposition.families import clean

EXCEPTION = re.compile(r"<?((?:[A-Za-z_]\w*\.)*)([A-Za-z_]\w*)\s*[(:\[]")
# The last line of a traceback; a class without a message ends the line.
RAISED = re.compile(r"((?:[A-Za-z_]\w*\.)*)([A-Za-z_]\w*)\s*(?:[(:\[]|$)")
REJECT = re.compile(r"reject requeue=")
UNNAMED_EXCEPTION = "UnknownException"
# Classes that only wrap the real exception.
WRAPPERS = frozenset({"ExceptionWithTraceback", "ExceptionInfo", "RemoteTraceback"})


def exception_class(text: Any, traceback: Any = None) -> str:
    """The class in an exception's repr, or in the traceback's last line if the repr names only a wrapper."""
    match = EXCEPTION.match(text) if isinstance(text, str) else None
    if match and match[2] not in WRAPPERS:
        return clean(match[2])
    if isinstance(text, str) and REJECT.match(text):
        return "Reject"
    raised = RAISED.match(last_line(traceback)) if isinstance(traceback, str) else None
    if raised and raised[2] not in WRAPPERS:
        return clean(raised[2])
    return clean(match[2]) if match else UNNAMED_EXCEPTION


def last_line(traceback: str) -> str:
    """The line of a traceback that names the exception: the last one that is not indented and not empty."""
    lines = [
        line for line in traceback[-4096:].splitlines() if line.strip("\"' ") and not line.startswith(" ")
    ]
    return lines[-1] if lines else ""
