"""Before a process starts: configuration mistakes are reported, and the database and its migrations are awaited."""

import logging
import sys
import time

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, OperationalError, connection

log = logging.getLogger(__name__)

# For a restart of the database, or of the network of a new pod.
DATABASE_SECONDS = 60.0
# For another container that applies them meanwhile.
MIGRATION_SECONDS = 180.0
# What a server answers that will accept connections later. Any other refusal is a mistake, such as a wrong password.
_LATER = (
    "starting up",
    "shutting down",
    "recovery",
    "not yet accepting",
    "too many",
    "remaining connection slots",
)


def require_settings() -> None:
    """Load the settings now. On a mistake, print it with a hint and exit with 2."""
    try:
        settings.INSTALLED_APPS  # noqa: B018  (the access loads them)
    except ImproperlyConfigured as error:
        text = str(error)
        print(text if text.startswith("Error:") else f"Error: {text}", file=sys.stderr)
        raise SystemExit(2) from None


def await_database(seconds: float = DATABASE_SECONDS, pause: float = 1.0) -> None:
    """Wait until the database accepts a connection. After this time, or if it refuses permanently, the caller finds out itself."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            connection.ensure_connection()
        except OperationalError as error:
            if _is_final(str(error)):
                return
            log.warning("waiting for the database", extra={"reason": type(error.__cause__ or error).__name__})
            time.sleep(pause)
        else:
            connection.close()
            return


def await_migrations(seconds: float = MIGRATION_SECONDS, pause: float = 0.5) -> list[str]:
    """Wait until the database has every migration of this code, so that no request and no task meets older tables.

    Returns:
        What is still missing after this time. Empty if the database refuses: the caller finds out itself.
    """
    # Django's models are loaded by now.
    from monitoring.migrations import unapplied

    await_database()
    until = time.monotonic() + seconds
    while True:
        try:
            missing = unapplied()
        except DatabaseError:
            missing = []
        finally:
            connection.close()
        if not missing or time.monotonic() >= until:
            return missing
        log.info("waiting for migrations", extra={"migrations": len(missing)})
        time.sleep(pause)


def _is_final(message: str) -> bool:
    return "FATAL" in message and not any(sign in message for sign in _LATER)
