"""For a developer's machine and the demo: the sandbox is allowed, and webhooks may be on this machine."""

from config import env
from config.settings.base import *  # noqa: F403 - the settings that this one overrides
from config.settings.base import FIELD_ENCRYPTION_KEYS, SECRET_KEY_FALLBACKS

SECRET_KEY = env.text("SECRET_KEY", "django-insecure-for-development-only")
FIELD_ENCRYPTION_KEYS = FIELD_ENCRYPTION_KEYS or [SECRET_KEY, *SECRET_KEY_FALLBACKS]
DEBUG = env.flag("DEBUG", default=True)
ALLOWED_HOSTS = env.names("ALLOWED_HOSTS", ["*"])

SANDBOX_ALLOWED = True
WEBHOOK_ALLOW_PRIVATE = True
WEBHOOK_ALLOW_HTTP = True
# The address of a stand-in for Stripe.
STRIPE_API_BASE = env.text("STRIPE_API_BASE").rstrip("/")

SENTRY_ENVIRONMENT = env.text("SENTRY_ENVIRONMENT", "development")
WHITENOISE_USE_FINDERS = True
# Static files are served from their sources; a missing collected folder needs no warning.
WHITENOISE_AUTOREFRESH = True
