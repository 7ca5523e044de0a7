"""Log records on stderr, as plain lines or as JSON, with registered secrets masked."""

import json
import logging
import re
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Literal, TextIO
from urllib.parse import quote

Form = Literal["text", "json"]
MASK = "********"
# Shorter values would mask ordinary words.
SHORTEST_SECRET = 4
# Control characters except tab: C0, DEL and C1, the separators that some viewers break lines at, and halves of
# characters, which no encoding can write.
_CONTROL = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


class LineFormatter(logging.Formatter):
    """``2026-11-23T05:00:00Z INFO exporters.tasks message``; secrets are masked, even in tracebacks."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s %(message)s")
        self._secrets = _to_mask(secrets)

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: ARG002, N802 - the base class names it
        return datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def format(self, record: logging.LogRecord) -> str:
        return self.masked(super().format(record))

    def masked(self, text: str) -> str:
        """The text without the secrets."""
        return _masked(text, self._secrets)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the base class names it
        """One line, whatever the values in the message contain. Only a traceback has further lines."""
        return escape(super().formatMessage(record))


class JsonFormatter(LineFormatter):
    """One JSON object per line, with the names that the app's logs have. For the services, whose lines a log store reads."""

    def format(self, record: logging.LogRecord) -> str:
        document = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": self.masked(record.getMessage()),
        }
        if record.exc_info:
            document["exc_info"] = self.masked(self.formatException(record.exc_info))
        return json.dumps(document)


def escape(text: str) -> str:
    """The text with visible escapes for control characters, so that a value can neither forge a line nor move the cursor."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def mask(text: str, secrets: Iterable[str]) -> str:
    """The text with each secret replaced, except those that are too short."""
    return _masked(text, _to_mask(secrets))


def _to_mask(secrets: Iterable[str]) -> list[str]:
    known = [secret for secret in secrets if len(secret) >= SHORTEST_SECRET]
    # In a URL, a secret may be written with percent signs.
    forms = {form for secret in known for form in (secret, quote(secret), quote(secret, safe=""))}
    # Longest first, so that a secret that contains another one is masked as a whole.
    return sorted(forms, key=len, reverse=True)


def _masked(text: str, secrets: Iterable[str]) -> str:
    for secret in secrets:
        text = text.replace(secret, MASK)
    return text


def configure(
    level: str = "INFO", *, secrets: Iterable[str] = (), stream: TextIO | None = None, form: Form = "text"
) -> None:
    """Send all records to stderr in one format. Calling again replaces the earlier set-up."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter((JsonFormatter if form == "json" else LineFormatter)(secrets))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())


def fields(**values: Any) -> str:
    """``key=value`` pairs for the end of a message; values with spaces are quoted."""
    return " ".join(f"{key}={_quoted(value)}" for key, value in values.items())


def _quoted(value: Any) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return repr(text) if " " in text or not text else text
