"""Names the media files that the rows of a restored database need and the copy of the media store does not have.

For BACKUP_VERIFY_COMMAND, which runs it with DATABASE_URL and without a network, so it reads a list of the copy:

    rclone lsjson --recursive --files-only COPY:posthub-media-copy/production > media.json
    BACKUP_VERIFY_COMMAND=python /checks/check_media.py /checks/media.json

Exit code 0: every file is there, with the size in its row. Databases without PostHub's table have nothing to check.
Rows that are newer than the list, or were made while it was written, are not checked, unless the list is older than --hours.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg

ROWS = "SELECT owner_id, id::text, kind, size, created_at FROM media_asset ORDER BY created_at DESC"
SHOWN = 5
# The time that writing the list may have taken.
WRITING = timedelta(minutes=10)


@dataclass(frozen=True)
class File:
    """A file that a row needs. The size of a thumbnail is not in the row."""

    key: str
    size: int | None
    created: datetime


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "inventory", type=Path, help="output of rclone lsjson for the copy of the media store"
    )
    parser.add_argument("--hours", type=float, default=26, help="maximum age of the list (default: 26)")
    asked = parser.parse_args()
    try:
        taken = datetime.fromtimestamp(asked.inventory.stat().st_mtime, UTC)
        stored = sizes(json.loads(asked.inventory.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, LookupError) as error:
        return failed(
            f"{asked.inventory} is not a list of rclone lsjson ({type(error).__name__})", "write it again"
        )
    if not (url := os.environ.get("DATABASE_URL")):
        return failed("DATABASE_URL is not set", "run it as BACKUP_VERIFY_COMMAND")
    try:
        needed = list(files(url))
    except psycopg.Error as error:
        return failed(
            f"the restored database cannot be read: {type(error).__name__}", "read the verification's log"
        )
    if needed and datetime.now(UTC) - taken > timedelta(hours=asked.hours):
        return failed(
            f"the list is from {taken:%Y-%m-%d %H:%M} UTC, which is too old",
            "run the copy before the verification",
        )
    checked = [file for file in needed if file.created <= taken - WRITING]
    wrong = list(differences(checked, stored))
    if wrong:
        rest = f", and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
        return failed(
            f"{len(wrong)} of {len(checked)} media files: {'; '.join(wrong[:SHOWN])}{rest}",
            "find them in the bucket or in older versions of it, and copy them",
        )
    print(f"{len(checked)} media files are in the copy, {len(needed) - len(checked)} are newer than its list")
    return 0


def failed(message: str, hint: str) -> int:
    print(f"Error: {message}\nTry: {hint}", file=sys.stderr)
    return 1


def sizes(listing: list[dict[str, Any]]) -> dict[str, int]:
    """Sizes by key."""
    return {str(entry["Path"]): int(entry["Size"]) for entry in listing}


def files(url: str) -> Iterator[File]:
    """The files that the rows need, the newest first."""
    with psycopg.connect(url) as connection:
        if connection.execute("SELECT to_regclass('media_asset')").fetchone() == (None,):
            return
        for owner, pk, kind, size, created in connection.execute(ROWS):
            yield File(f"{owner}/{pk}/original", size, created)
            if kind == "image":
                yield File(f"{owner}/{pk}/thumbnail", None, created)


def differences(needed: list[File], stored: dict[str, int]) -> Iterator[str]:
    for file in needed:
        if file.key not in stored:
            yield f"{file.key} is missing"
        elif file.size not in (None, stored[file.key]):
            yield f"{file.key} has {stored[file.key]} bytes instead of {file.size}"


if __name__ == "__main__":
    sys.exit(main())
