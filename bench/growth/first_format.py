"""Backups as their documents: verified ones in the first format, so that every checkout reads them.

It imports nothing of this project, because the programs that measure an older checkout use it too.
"""

import hashlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any


def documents(
    database: str, count: int, tables: int, *, same_rows: bool = False
) -> Iterator[tuple[str, bytes]]:
    """Key and content of each object of some verified backups, one an hour.

    Args:
        same_rows: whether each table has as many rows in every backup.
    """
    now = datetime.now(UTC).replace(microsecond=0)
    for number in range(count):
        moment = now - timedelta(hours=count - number)
        backup_id = f"{moment:%Y%m%dT%H%M%SZ}-{number:06x}"
        place = f"{database}/{backup_id}"
        yield f"{place}/database.dump.zst", b"0"
        manifest = _manifest(database, backup_id, moment, 0 if same_rows else number, tables)
        yield f"{place}/manifest.json", _sealed(manifest)
        report = {
            "backup": backup_id,
            "database": database,
            "started": moment.isoformat(),
            "finished": moment.isoformat(),
            "ok": True,
            "stages": {"restore": 1.0},
        }
        yield f"{place}/verification-{moment:%Y%m%dT%H%M%SZ}.json", _json(report)


def _manifest(database: str, backup_id: str, moment: datetime, number: int, tables: int) -> dict[str, Any]:
    at = moment.isoformat()
    archive = {
        "name": "database.dump.zst",
        "role": "archive",
        "raw_bytes": 1,
        "stored_bytes": 1,
        "sha256": "0" * 64,
        "compression": "zstd",
        "encryption": None,
    }
    return {
        "format": 1,
        "id": backup_id,
        "database": database,
        "kind": "postgres",
        "taken": at,
        "started": at,
        "finished": at,
        "tool": "bench",
        "client": "18.6",
        "server": {"version": "18.6", "version_number": 180006},
        "objects": [archive],
        "tables": [
            {"schema": "public", "name": f"table_{each}", "rows": each + number} for each in range(tables)
        ],
    }


def _json(value: object) -> bytes:
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False).encode()


def _sealed(value: dict[str, Any]) -> bytes:
    return _json({**value, "digest": hashlib.sha256(_json(value)).hexdigest()})
