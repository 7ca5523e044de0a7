"""The Celery app: `celery -A config worker|beat|flower`."""

import logging.config
import os
import sys
from pathlib import Path
from typing import Any

from celery import Celery, signals

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings.production")


def _is_celery_program() -> bool:
    program = Path(sys.argv[0])
    return program.name == "celery" or program.parent.name == "celery"


if _is_celery_program():
    from config.startup import require_settings
    from config.worker_metrics import choose_folder

    require_settings()
    # Before any metric is created.
    if "worker" in sys.argv:
        choose_folder()

app = Celery("posthub")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@signals.setup_logging.connect
def configure_logging(**_: Any) -> None:
    """Replace Celery's logging configuration with the project's, so that workers log JSON like the API."""
    from django.conf import settings

    logging.config.dictConfig(settings.LOGGING)


@signals.setup_logging.connect
def await_migrations(**_: Any) -> None:
    """A task must not meet older tables, and beat ends if the database refuses. This signal is the last one before both."""
    if _is_celery_program() and ("beat" in sys.argv or "worker" in sys.argv):
        from config import startup

        if missing := startup.await_migrations():
            print(f"Error: {len(missing)} migrations are not applied, such as {missing[0]}", file=sys.stderr)
            print("Try: python manage.py migrate", file=sys.stderr)
            raise SystemExit(1)


@signals.worker_init.connect
def serve_worker_metrics(sender: Any, **_: Any) -> None:
    from config.worker_metrics import serve

    serve(sender.hostname)


@signals.worker_ready.connect
def note_ready_worker(**_: Any) -> None:
    from config.worker_metrics import ready

    ready.set()


@signals.worker_shutdown.connect
def drop_worker_metrics(**_: Any) -> None:
    from config.worker_metrics import clean

    clean()
