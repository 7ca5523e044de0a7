"""The periodic tasks, written to django-celery-beat's tables after each `migrate`.

Changes made in the admin are kept; an interval from the environment has priority over both.
"""

import os
from typing import Any

from django.conf import settings
from django.db import connections


def entries() -> dict[str, tuple[str, str]]:
    """Name of the entry → task, and name of the setting and variable with its interval in seconds."""
    return {
        "publish-due": ("posts.tasks.publish_due", "PUBLISH_DUE_INTERVAL"),
        "billing-catch-up": ("billing.tasks.catch_up", "BILLING_CATCH_UP_INTERVAL"),
        "housekeeping": ("monitoring.tasks.housekeeping", "HOUSEKEEPING_INTERVAL"),
    }


# Name of the entry → task, and the time of the day (UTC) as hour and minute.
NIGHTLY = {"billing-reconcile": ("billing.tasks.reconcile", 3, 20)}
# A nightly message that waits longer than this, in seconds, is superseded by the next one.
NIGHTLY_EXPIRES = 12 * 3600


def install(using: str = "default", **_: Any) -> None:
    from django_celery_beat.models import PeriodicTask

    if PeriodicTask._meta.db_table not in connections[using].introspection.table_names():
        return
    for name, (task, setting) in entries().items():
        _install(name, task, setting)
    for name, (task, hour, minute) in NIGHTLY.items():
        _install_nightly(name, task, hour, minute)


def _install_nightly(name: str, task: str, hour: int, minute: int) -> None:
    from django_celery_beat.models import CrontabSchedule, PeriodicTask

    crontab, _ = CrontabSchedule.objects.get_or_create(
        minute=str(minute),
        hour=str(hour),
        day_of_week="*",
        day_of_month="*",
        month_of_year="*",
        timezone="UTC",
    )
    PeriodicTask.objects.get_or_create(
        name=name, defaults={"task": task, "crontab": crontab, "expire_seconds": NIGHTLY_EXPIRES}
    )


def _install(name: str, task: str, setting: str) -> None:
    from django_celery_beat.models import IntervalSchedule, PeriodicTask

    seconds = getattr(settings, setting)
    interval, _ = IntervalSchedule.objects.get_or_create(every=seconds, period=IntervalSchedule.SECONDS)
    # A message that waits longer than this is superseded by the next one.
    values = {"interval": interval, "expire_seconds": max(seconds, 30)}
    entry, created = PeriodicTask.objects.get_or_create(name=name, defaults={"task": task, **values})
    if not created and os.environ.get(setting) and entry.interval_id != interval.pk:
        entry.interval, entry.expire_seconds = interval, max(seconds, 30)
        entry.save()
