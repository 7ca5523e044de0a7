"""The periodic tasks, put into django-celery-beat's tables after each `migrate`.

An operator's changes in the admin stay; an interval given in the environment wins over both.
"""

import os
from typing import Any

from django.conf import settings
from django.db import connections


def entries() -> dict[str, tuple[str, str]]:
    """Name of the entry → task, setting (and environment name) of its interval in seconds."""
    return {
        "publish-due": ("posts.tasks.publish_due", "PUBLISH_DUE_INTERVAL"),
        "housekeeping": ("monitoring.tasks.housekeeping", "HOUSEKEEPING_INTERVAL"),
    }


def install(using: str = "default", **_: Any) -> None:
    from django_celery_beat.models import PeriodicTask

    if PeriodicTask._meta.db_table not in connections[using].introspection.table_names():
        return
    for name, (task, setting) in entries().items():
        _install(name, task, setting)


def _install(name: str, task: str, setting: str) -> None:
    from django_celery_beat.models import IntervalSchedule, PeriodicTask

    seconds = getattr(settings, setting)
    interval, _ = IntervalSchedule.objects.get_or_create(every=seconds, period=IntervalSchedule.SECONDS)
    # A tick that waited longer than this has been overtaken by the next one.
    values = {"interval": interval, "expire_seconds": max(seconds, 30)}
    entry, created = PeriodicTask.objects.get_or_create(name=name, defaults={"task": task, **values})
    if not created and os.environ.get(setting) and entry.interval_id != interval.pk:
        entry.interval, entry.expire_seconds = interval, max(seconds, 30)
        entry.save()
