"""Run as a separate process: when django-celery-beat itself would run schedules. Reads cases from stdin, writes seconds.

A case names ``every`` (seconds) or ``crontab`` (five fields), ``start`` and ``last`` (seconds from now, or null).
"""

import json
import sys
from datetime import datetime, timedelta
from typing import Any

import django
from celery import Celery
from django.conf import settings

settings.configure(
    INSTALLED_APPS=["django_celery_beat"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    USE_TZ=True,
    TIME_ZONE="UTC",
    CELERY_TIMEZONE="UTC",
)
django.setup()

# ruff: noqa: E402 - models can be imported only after the setup
from django.utils.timezone import now
from django_celery_beat.models import CrontabSchedule, IntervalSchedule, PeriodicTask  # type: ignore[import-untyped]
from django_celery_beat.schedulers import ModelEntry  # type: ignore[import-untyped]


def moment(offset: float | None) -> datetime | None:
    return None if offset is None else now() + timedelta(seconds=offset)


def seconds(case: dict[str, Any]) -> float:
    """Seconds until beat sends it; 0 if it does so at once."""
    task = PeriodicTask(
        name="case",
        task="shop.add",
        start_time=moment(case["start"]),
        last_run_at=moment(case["last"]),
        date_changed=now(),
    )
    if case.get("every"):
        task.interval = IntervalSchedule(every=case["every"], period="seconds")
    else:
        fields = ("minute", "hour", "day_of_week", "day_of_month", "month_of_year")
        task.crontab = CrontabSchedule(timezone="UTC", **dict(zip(fields, case["crontab"], strict=True)))
    app = Celery("case", broker="memory://", set_as_current=False)
    app.conf.update(timezone="UTC")
    state = ModelEntry(task, app=app).is_due()
    return 0.0 if state.is_due else float(state.next)


print(json.dumps([seconds(case) for case in json.load(sys.stdin)]))
