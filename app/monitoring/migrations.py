"""Migrations that have not been applied. The files are read once per process, the table at each call."""

from functools import cache

from django.db import connection
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder

Key = tuple[str, str]


@cache
def _known() -> dict[Key, tuple[Key, ...]]:
    """Every migration in the code, with those that it replaces."""
    loader = MigrationLoader(None)
    return {key: tuple(migration.replaces) for key, migration in loader.disk_migrations.items()}


def unapplied() -> list[str]:
    applied = MigrationRecorder(connection).applied_migrations().keys()
    known = _known()
    replaced = {key for olds in known.values() for key in olds}
    missing = [
        key
        for key, olds in known.items()
        if key not in applied and key not in replaced and not (olds and all(old in applied for old in olds))
    ]
    return sorted(f"{app}.{name}" for app, name in missing)
