"""The PostHub project. The Celery app is imported here, so that `celery -A config` and every task can find it."""

from config.celery import app as celery_app

__all__ = ["celery_app"]
