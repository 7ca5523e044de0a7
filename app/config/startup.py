"""Configuration mistakes are reported to the person who starts the process."""

import sys

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured


def require_settings() -> None:
    """Load the settings now. On a mistake, print it with a hint and exit with 2."""
    try:
        settings.INSTALLED_APPS  # noqa: B018  (the access loads them)
    except ImproperlyConfigured as error:
        text = str(error)
        print(text if text.startswith("Error:") else f"Error: {text}", file=sys.stderr)
        raise SystemExit(2) from None
