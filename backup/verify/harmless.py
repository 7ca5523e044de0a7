"""Errors of pg_restore that change nothing of what was restored. docs/restore.md lists them with their reasons.

Nothing is added here because it is frequent: only what is known to leave the database equal, which the comparison
afterwards proves all the same.
"""

import re
from collections.abc import Iterable

HARMLESS: dict[str, re.Pattern[str]] = {
    "the dump's program is newer than the server: it sets a time limit that the server does not know": re.compile(
        r'unrecognized configuration parameter "(?:transaction_timeout|idle_session_timeout)"'
    ),
    "every database is made with this schema": re.compile(r'schema "public" already exists'),
    "every database is made with this extension": re.compile(
        r'extension "plpgsql" already exists|must be owner of extension plpgsql'
    ),
}
_ERROR = re.compile(r"^pg_restore: error: |^psql:.*ERROR: |^ERROR: ")
_IGNORED = re.compile(r"errors ignored on restore: (?P<count>\d+)")


def reason(line: str) -> str | None:
    """Why an error is harmless; None if it is not."""
    return next((why for why, pattern in HARMLESS.items() if pattern.search(line)), None)


def only_harmless(lines: Iterable[str]) -> bool:
    """Whether a program that ended with an error said nothing but harmless things, and nothing was cut off."""
    lines = list(lines)
    errors = [line for line in lines if _ERROR.match(line)]
    ignored = [int(found["count"]) for line in lines if (found := _IGNORED.search(line))]
    return bool(errors) and all(reason(line) for line in errors) and ignored == [len(errors)]
