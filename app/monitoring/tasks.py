import logging
from typing import Any

from celery import shared_task
from django.contrib.sessions.backends.db import SessionStore

from accounts import tokens
from ai import services as ai
from billing import events, synchronization
from config.sending import SAFE
from posts import publication, signing_secrets

log = logging.getLogger(__name__)


@shared_task(name="monitoring.tasks.housekeeping", soft_time_limit=120, time_limit=150, **SAFE)
def housekeeping() -> dict[str, Any]:
    """Recover what dead workers and lost messages left behind, and delete what is too old to keep."""
    done = {
        "posts": publication.recover(),
        "ai_jobs": ai.recover(),
        "ai_jobs_deleted": ai.forget(),
        "billing_events": events.resend(),
        "billing_events_deleted": events.forget(),
        "grace_periods_ended": synchronization.end_grace_periods(),
        "tokens_deleted": tokens.forget(),
        "secrets": signing_secrets.reencrypt(),
    }
    SessionStore.clear_expired()
    log.info("housekeeping done", extra=done)
    return done
