"""For posthub.work. Refuses to start with an unsafe configuration."""

from config import env
from config.settings import guard
from config.settings.base import *  # noqa: F403 - the settings that this one overrides
from config.settings.base import (
    ALLOWED_HOSTS,
    CORS_ALLOWED_ORIGINS,
    FIELD_ENCRYPTION_KEYS,
    GEMINI_API_URL,
    PERPLEXITY_API_URL,
    REST_FRAMEWORK,
    SECRET_KEY,
    SECRET_KEY_FALLBACKS,
)

guard.require_safe(
    guard.problems(
        secret_key=env.text("SECRET_KEY"),
        debug=env.flag("DEBUG"),
        hosts=env.names("ALLOWED_HOSTS"),
        missing=[name for name in ("DATABASE_URL", "REDIS_URL") if not env.text(name)],
        providers={"GEMINI_API_URL": GEMINI_API_URL, "PERPLEXITY_API_URL": PERPLEXITY_API_URL},
        # The address of a stand-in: with it, anyone who runs one could sell the plan pro.
        forbidden=[name for name in ("STRIPE_API_BASE",) if env.text(name)],
    )
)

DEBUG = False
FIELD_ENCRYPTION_KEYS = FIELD_ENCRYPTION_KEYS or [SECRET_KEY, *SECRET_KEY_FALLBACKS]
SANDBOX_ALLOWED = False
API_URL = env.text("API_URL", f"https://{ALLOWED_HOSTS[0].lstrip('.')}").rstrip("/")
FRONTEND_URL = env.origin("FRONTEND_URL", next(iter(CORS_ALLOWED_ORIGINS), API_URL))
WEBHOOK_ALLOW_PRIVATE = env.flag("WEBHOOK_ALLOW_PRIVATE")
WEBHOOK_ALLOW_HTTP = env.flag("WEBHOOK_ALLOW_HTTP")

# Caddy terminates TLS and appends one entry to X-Forwarded-For.
REST_FRAMEWORK["NUM_PROXIES"] = env.whole("API_NUM_PROXIES", 1)
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
SECURE_SSL_REDIRECT = env.flag("SECURE_SSL_REDIRECT", default=True)
# Probes and Prometheus use the internal network, without TLS.
SECURE_REDIRECT_EXEMPT = [r"^metrics$", r"^health/$", r"^api/v1/health/$"]
SECURE_HSTS_SECONDS = env.whole("SECURE_HSTS_SECONDS", 31_536_000)
# Opt-in, because browsers keep both for a long time: they also concern the domain's other hosts.
SECURE_HSTS_INCLUDE_SUBDOMAINS = env.flag("SECURE_HSTS_INCLUDE_SUBDOMAINS")
SECURE_HSTS_PRELOAD = env.flag("SECURE_HSTS_PRELOAD")
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]  # the warnings about these two
SESSION_COOKIE_SECURE = True
CSRF_COOKIE_SECURE = True

STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
}
