"""The state of queues and backups in a few numbers, for operators."""

import math
from datetime import UTC, datetime
from typing import Any

from monitoring.promquery import by_label

QUEUE = "queue_name"
DATABASE = "database"
QUEUES = {
    "length": "max by (queue_name) (celery_queue_length)",
    "oldest_age": "max by (queue_name) (celery_queue_oldest_message_age_seconds)",
    "consumers": "max by (queue_name) (celery_queue_consumers)",
}
BACKUPS = {
    "verified_at": "max by (database) (backup_last_verified_timestamp_seconds)",
    "taken_at": "max by (database) (backup_last_verified_backup_timestamp_seconds)",
    "rto": "max by (database) (backup_rto_seconds)",
    "rto_target": "max by (database) (backup_rto_target_seconds)",
    "unlike": "max by (database) (backup_anomalous)",
}


def state(url: str) -> dict[str, list[dict[str, Any]]]:
    """Queues and backups according to Prometheus.

    Raises:
        NoAnswerError: Prometheus does not answer.
    """
    return {"queues": _queues(url), "backups": _backups(url)}


def _queues(url: str) -> list[dict[str, Any]]:
    found = {name: by_label(url, expression, QUEUE) for name, expression in QUEUES.items()}
    return [
        {
            "name": queue,
            "length": _whole(found["length"].get(queue)),
            "oldest_age_seconds": _number(found["oldest_age"].get(queue)),
            "consumers": _whole(found["consumers"].get(queue)),
        }
        for queue in sorted(found["length"])
    ]


def _backups(url: str) -> list[dict[str, Any]]:
    found = {name: by_label(url, expression, DATABASE) for name, expression in BACKUPS.items()}
    # Targets exist before the first backup: a database without a backup must be shown, not left out.
    databases = sorted({database for values in found.values() for database in values})
    return [
        {
            "database": database,
            "verified_at": _moment(found["verified_at"].get(database)),
            "taken_at": _moment(found["taken_at"].get(database)),
            "rto_seconds": _number(found["rto"].get(database)),
            "rto_target_seconds": _number(found["rto_target"].get(database)),
            "unlike": _flag(found["unlike"].get(database)),
        }
        for database in databases
    ]


def _number(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _whole(value: float | None) -> int | None:
    number = _number(value)
    return None if number is None else round(number)


def _flag(value: float | None) -> bool | None:
    number = _number(value)
    return None if number is None else number > 0


def _moment(value: float | None) -> datetime | None:
    """A time, or None for 0, which stands for "never"."""
    number = _number(value)
    return datetime.fromtimestamp(number, UTC) if number else None
