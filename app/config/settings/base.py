"""Settings that all environments share. docs/app.md lists the environment variables."""

from pathlib import Path
from typing import Any

from config import env, queues, redis_url

BASE_DIR = Path(__file__).resolve().parent.parent.parent

SECRET_KEY = env.text("SECRET_KEY")
SECRET_KEY_FALLBACKS = env.names("SECRET_KEY_FALLBACKS")
# Keys for columns with secrets. The first one encrypts, the others only decrypt.
FIELD_ENCRYPTION_KEYS = env.keys("FIELD_ENCRYPTION_KEYS")
DEBUG = False
ALLOWED_HOSTS = env.names("ALLOWED_HOSTS")

# The sandbox replaces AI providers and social networks. Only the development settings allow it.
SANDBOX_ALLOWED = False

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.postgres",
    "corsheaders",
    "django_celery_beat",
    "django_prometheus",
    "drf_spectacular",
    "rest_framework",
    "accounts",
    "billing",
    "media",
    "posts",
    "ai",
    "monitoring",
]

MIDDLEWARE = [
    "monitoring.middleware.ProbeHostMiddleware",
    "django_prometheus.middleware.PrometheusBeforeMiddleware",
    "monitoring.middleware.RequestLogMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "config.middleware.AdminContentSecurityPolicyMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "corsheaders.middleware.CorsMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_prometheus.middleware.PrometheusAfterMiddleware",
    "config.middleware.ApiErrorMiddleware",
]

ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

# Data

DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES: dict[str, dict[str, Any]] = {
    "default": env.database("DATABASE_URL", "postgres://posthub:posthub_dev_password@127.0.0.1:5432/posthub")
}
DATABASES["default"] |= {
    "CONN_MAX_AGE": env.whole("DATABASE_CONN_MAX_AGE", 60),
    "CONN_HEALTH_CHECKS": True,
}
DATABASES["default"].setdefault("OPTIONS", {}).setdefault("connect_timeout", 3)

REDIS_URL = env.address("REDIS_URL", "redis://127.0.0.1:6379/0", redis_url.SCHEMES)
# The name of the master in Sentinel, for addresses that begin with sentinel://.
REDIS_SENTINEL_MASTER = env.text("REDIS_SENTINEL_MASTER", "posthub")
_cache = redis_url.cache(REDIS_URL, REDIS_SENTINEL_MASTER)
CACHES = {
    "default": {
        "BACKEND": "django_prometheus.cache.backends.redis.RedisCache",
        "LOCATION": _cache["LOCATION"],
        "KEY_PREFIX": "posthub",
        "OPTIONS": {
            # Without Redis the API keeps working, unthrottled; health reports the cause.
            "IGNORE_EXCEPTIONS": True,
            "SOCKET_CONNECT_TIMEOUT": 2,
            "SOCKET_TIMEOUT": 2,
            **_cache["OPTIONS"],
        },
    },
    # Attempts to sign in: here an error is an error, so that without Redis no one can try passwords unthrottled.
    "sign_in": {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": _cache["LOCATION"],
        "KEY_PREFIX": "posthub:sign_in",
        "OPTIONS": {
            "IGNORE_EXCEPTIONS": False,
            "SOCKET_CONNECT_TIMEOUT": 2,
            "SOCKET_TIMEOUT": 2,
            **_cache["OPTIONS"],
        },
    },
}

# Accounts

AUTH_USER_MODEL = "accounts.User"
AUTHENTICATION_BACKENDS = ["accounts.backends.ThrottledBackend"]
# Attempts to sign in, from one address (successful ones included) and on one account (failed ones).
SIGN_IN_PER_ADDRESS = env.rate("API_THROTTLE_LOGIN", "10/min")
SIGN_IN_PER_ACCOUNT = env.rate("API_THROTTLE_LOGIN_ACCOUNT", "30/hour")
# Days until an API token expires, unless its owner chooses a different lifetime.
API_TOKEN_DAYS = env.whole("API_TOKEN_DAYS", 90, minimum=1)
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]
CORS_ALLOWED_ORIGINS = env.origins("CORS_ALLOWED_ORIGINS")
CORS_ALLOW_CREDENTIALS = True
CORS_EXPOSE_HEADERS = ["X-Request-ID"]
CSRF_TRUSTED_ORIGINS = CORS_ALLOWED_ORIGINS

# Language, files

LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_TZ = True
STATIC_URL = "/static/"
STATIC_ROOT = BASE_DIR / "staticfiles"

# API

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "accounts.authentication.TokenAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["config.parsers.Json"],
    "DEFAULT_PAGINATION_CLASS": "config.pagination.Pages",
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "DEFAULT_THROTTLE_CLASSES": [
        "rest_framework.throttling.AnonRateThrottle",
        "rest_framework.throttling.UserRateThrottle",
        "rest_framework.throttling.ScopedRateThrottle",
    ],
    "DEFAULT_THROTTLE_RATES": {
        "anon": env.rate("API_THROTTLE_ANON", "60/min"),
        "user": env.rate("API_THROTTLE_USER", "600/min"),
        "ai": env.rate("API_THROTTLE_AI", "60/min"),
        "billing": env.rate("API_THROTTLE_BILLING", "20/min"),
    },
    # Number of proxies that append to X-Forwarded-For; 0 uses the address of the connection.
    "NUM_PROXIES": env.whole("API_NUM_PROXIES", 0),
    "EXCEPTION_HANDLER": "config.errors.handle",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "PostHub API",
    "VERSION": "1",
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_PERMISSIONS": ["rest_framework.permissions.IsAuthenticated"],
    "SCHEMA_PATH_PREFIX": "/api/v1",
    "COMPONENT_SPLIT_REQUEST": True,
    "ENUM_NAME_OVERRIDES": {
        "Publisher": "posts.models.Channel.Publisher",
        "PostStatus": "posts.models.Post.Status",
        "JobStatus": "ai.models.AIJob.Status",
        "JobKind": "ai.models.AIJob.Kind",
        "Plan": "accounts.models.User.Plan",
    },
}

# Celery

CELERY_BROKER_URL = env.address("CELERY_BROKER_URL", REDIS_URL, queues.BROKERS)
# Results are not used: the state of a post or a job is in the database.
CELERY_RESULT_BACKEND = None
CELERY_RESULT_EXPIRES = None
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_DEFAULT_QUEUE = queues.DEFAULT
CELERY_TASK_QUEUES = queues.TASK_QUEUES
CELERY_TASK_ROUTES = queues.TASK_ROUTES
# A task for a queue that no worker consumes must fail at once instead of waiting forever.
CELERY_TASK_CREATE_MISSING_QUEUES = False
CELERY_TASK_TIME_LIMIT = 300
CELERY_TASK_SOFT_TIME_LIMIT = 270
# Longest wait for the next attempt of a task, in seconds. A worker keeps the message during the wait.
TASK_LONGEST_BACKOFF = 300
CELERY_TASK_SEND_SENT_EVENT = True
CELERY_TASK_PUBLISH_RETRY_POLICY = {
    "max_retries": 2,
    "interval_start": 0,
    "interval_step": 0.2,
    "interval_max": 0.5,
}
CELERY_WORKER_SEND_TASK_EVENTS = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_WORKER_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS = True
CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT = 5.0
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_TRANSPORT_OPTIONS = {
    # Longer than the longest backoff plus the time limit, so that only messages of dead workers are delivered again.
    "visibility_timeout": env.whole(
        "CELERY_VISIBILITY_TIMEOUT", 900, minimum=TASK_LONGEST_BACKOFF + CELERY_TASK_TIME_LIMIT + 1
    ),
    "socket_connect_timeout": 5,
    "socket_timeout": 30,
    "socket_keepalive": True,
    "health_check_interval": 25,
    **redis_url.transport_options(CELERY_BROKER_URL, REDIS_SENTINEL_MASTER),
}
CELERY_TIMEZONE = TIME_ZONE
CELERY_BEAT_SCHEDULER = "django_celery_beat.schedulers:DatabaseScheduler"

# Publishing

PUBLISH_DUE_INTERVAL = env.whole("PUBLISH_DUE_INTERVAL", 60, minimum=1)
HOUSEKEEPING_INTERVAL = env.whole("HOUSEKEEPING_INTERVAL", 300, minimum=1)
PUBLISH_MAX_ATTEMPTS = env.whole("PUBLISH_MAX_ATTEMPTS", 5, minimum=1)
PUBLISH_BACKOFF = env.seconds("PUBLISH_BACKOFF", 10)
# Posts of one customer that are published at the same time, across all workers.
PUBLISH_PER_OWNER = env.whole("PUBLISH_PER_OWNER", 2, minimum=1)
# Longer than the hard time limit of a publishing task: the worker that claimed the post is dead by then.
PUBLISH_STUCK_AFTER = env.seconds("PUBLISH_STUCK_AFTER", 300)
# Seconds after which the message of a due post counts as lost and is sent again.
PUBLISH_RESEND_AFTER = env.seconds("PUBLISH_RESEND_AFTER", 600)
# Seconds for a whole call of a webhook. The soft time limit of a publishing task, 60 s, must be longer.
WEBHOOK_TIMEOUT = env.seconds("WEBHOOK_TIMEOUT", 15, minimum=0.1, maximum=50)
WEBHOOK_ALLOW_PRIVATE = False
WEBHOOK_ALLOW_HTTP = False
SANDBOX_LATENCY = env.seconds("SANDBOX_LATENCY", 0)

# AI

GEMINI_API_KEY = env.text("GEMINI_API_KEY")
GEMINI_API_URL = env.text("GEMINI_API_URL", "https://generativelanguage.googleapis.com")
GEMINI_MODEL = env.text("GEMINI_MODEL", "gemini-flash-latest")
GEMINI_EMBEDDING_MODEL = env.text("GEMINI_EMBEDDING_MODEL", "gemini-embedding-001")
GEMINI_IMAGE_MODEL = env.text("GEMINI_IMAGE_MODEL", "gemini-2.5-flash-image")
# A separate key for images; by default Gemini's key.
NANOBANA_API_KEY = env.text("NANOBANA_API_KEY")
GEMINI_VIDEO_MODEL = env.text("GEMINI_VIDEO_MODEL", "veo-3.1-fast-generate-preview")
# A separate key for videos; by default Gemini's key.
VEO_API_KEY = env.text("VEO_API_KEY")
PERPLEXITY_API_KEY = env.text("PERPLEXITY_API_KEY")
PERPLEXITY_API_URL = env.text("PERPLEXITY_API_URL", "https://api.perplexity.ai")
PERPLEXITY_MODEL = env.text("PERPLEXITY_MODEL", "sonar")
AI_TIMEOUT = env.seconds("AI_TIMEOUT", 30, minimum=0.1)
AI_MAX_ATTEMPTS = env.whole("AI_MAX_ATTEMPTS", 4, minimum=1)
AI_BACKOFF = env.seconds("AI_BACKOFF", 5)
# Jobs of one customer that may run at the same time, across all workers.
AI_PER_OWNER = env.whole("AI_PER_OWNER", 1, minimum=1)
AI_STUCK_AFTER = env.seconds("AI_STUCK_AFTER", 600)
# Seconds after which the message of a queued job counts as lost and is sent again.
AI_RESEND_AFTER = env.seconds("AI_RESEND_AFTER", 3600)
# Seconds until the first look at a video's operation; later looks are further apart.
AI_VIDEO_POLL = env.seconds("AI_VIDEO_POLL", 10, minimum=0.1)
# Seconds after which an operation that has not ended is given up. Google keeps a finished video for two days.
AI_VIDEO_DEADLINE = env.seconds("AI_VIDEO_DEADLINE", 7200, minimum=60)
# What a customer may request in a day, by plan and kind: jobs, and for videos seconds.
AI_DAILY_QUOTAS = {
    "free": {
        "caption": env.whole("AI_DAILY_CAPTIONS_FREE", 20),
        "image": env.whole("AI_DAILY_IMAGES_FREE", 3),
        "video": env.whole("AI_DAILY_VIDEO_SECONDS_FREE", 8),
    },
    "paid": {
        "caption": env.whole("AI_DAILY_CAPTIONS_PAID", 500),
        "image": env.whole("AI_DAILY_IMAGES_PAID", 50),
        "video": env.whole("AI_DAILY_VIDEO_SECONDS_PAID", 120),
    },
}
AI_JOB_RETENTION_DAYS = env.whole("AI_JOB_RETENTION_DAYS", 90, minimum=1)

# Billing

STRIPE_SECRET_KEY = env.prefixed("STRIPE_SECRET_KEY", "sk_", "rk_")
# Of the webhook's endpoint. Several while it is rotated.
STRIPE_WEBHOOK_SECRETS = env.all_prefixed("STRIPE_WEBHOOK_SECRET", "whsec_")
# Prices of the plan pro. The first one is sold; the others still count.
STRIPE_PRICES = env.all_prefixed("STRIPE_PRICE_PRO", "price_")
# Only the development settings can choose another address: that of a stand-in.
STRIPE_API_BASE = ""
STRIPE_TIMEOUT = env.seconds("STRIPE_TIMEOUT", 10, minimum=0.1, maximum=30)
# Days for which the plan pro continues after a failed payment.
BILLING_GRACE_DAYS = env.whole("BILLING_GRACE_DAYS", 7)
BILLING_CATCH_UP_INTERVAL = env.whole("BILLING_CATCH_UP_INTERVAL", 900, minimum=1)
BILLING_BACKOFF = env.seconds("BILLING_BACKOFF", 5)
# Seconds after which the message of a pending event counts as lost and is sent again.
BILLING_RESEND_AFTER = env.seconds("BILLING_RESEND_AFTER", 900)
# Longer than Stripe's own 30 days, so that no event is mistaken for a new one.
BILLING_EVENT_RETENTION_DAYS = env.whole("BILLING_EVENT_RETENTION_DAYS", 90, minimum=31)

# Media

MEDIA_STORE_URL = env.media_store("MEDIA_STORE_URL")
MEDIA_S3_ENDPOINT_URL = env.text("MEDIA_S3_ENDPOINT_URL")
MEDIA_S3_REGION = env.text("MEDIA_S3_REGION")
MEDIA_S3_ACCESS_KEY_ID = env.text("MEDIA_S3_ACCESS_KEY_ID")
MEDIA_S3_SECRET_ACCESS_KEY = env.text("MEDIA_S3_SECRET_ACCESS_KEY")
# The address of this API, for links in webhooks.
API_URL = env.text("API_URL", "http://127.0.0.1:8000").rstrip("/")
# The address of the web frontend, to which Stripe sends customers back.
FRONTEND_URL = env.origin("FRONTEND_URL", next(iter(CORS_ALLOWED_ORIGINS), API_URL))

# Metrics, logs, errors

# The source of queues and backups on the system page, and the target of its link to the graphs.
PROMETHEUS_URL = env.text("PROMETHEUS_URL")
# In production, Grafana reads the second variable from the same file.
GRAFANA_URL = env.text("GRAFANA_URL", env.text("GF_SERVER_ROOT_URL"))
PROMETHEUS_EXPORT_MIGRATIONS = False  # monitoring.scrape exports it, correctly with several processes
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {"context": {"()": "monitoring.logs.ContextFilter"}},
    "formatters": {
        "json": {"()": "monitoring.logs.json_formatter"},
        "text": {"()": "monitoring.logs.TextFormatter"},
    },
    "handlers": {
        "console": {
            "class": "logging.StreamHandler",
            "filters": ["context"],
            "formatter": "text" if env.text("LOG_FORMAT", "json") == "text" else "json",
        }
    },
    "root": {"handlers": ["console"], "level": env.level("LOG_LEVEL", "INFO")},
    "loggers": {
        "django": {"handlers": [], "propagate": True},
        "django.server": {"handlers": [], "propagate": True},
        # monitoring.middleware already logs the request.
        "django.request": {"level": "ERROR"},
        # Its messages repeat what billing.client measures, and would name customers.
        "stripe": {"level": "WARNING"},
        "gunicorn.error": {"handlers": [], "propagate": True},
    },
}
SENTRY_DSN = env.dsn("SENTRY_DSN")
SENTRY_ENVIRONMENT = env.text("SENTRY_ENVIRONMENT", "production")
SENTRY_TRACES_SAMPLE_RATE = env.seconds("SENTRY_TRACES_SAMPLE_RATE", 0)
