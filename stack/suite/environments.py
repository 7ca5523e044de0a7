"""The environment variables of each program: only what it needs, and nothing from the user's shell."""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pyrage

from stack.paths import ROOT
from stack.ports import HOST
from stack.programs import find, postgres_bin
from stack.servers import ObjectStore, Postgres, Redis
from stack.standins.stripe import KEY, PRICE, SECRET

# Variables of the machine that every program needs.
MACHINE = ("PATH", "HOME", "LANG", "LC_ALL", "USER", "LD_LIBRARY_PATH")
BUCKET = "posthub-backups"
MEDIA_BUCKET = "posthub-media"
DATABASE_NAME = "posthub"
SERVER_NAME = "main"
# The password of the demo users, who exist only on this machine and only while the suite runs.
DEMO_PASSWORD = "posthub-demo"  # noqa: S105 - of the demo on this host


@dataclass(frozen=True)
class Sources:
    """The servers that our programs use, and the pace of this suite.

    Args:
        scratch: the temporary folder.
        pace: seconds between runs of everything that production does less often.
        worker_timeout: seconds without a heartbeat after which a worker counts as gone.
        beat_grace: seconds that a schedule may be overdue before beat counts as down.
        stripe: the address of the stand-in for Stripe.
        frontend: the address of the web frontend, to which its pages lead back.
        identity: the age key of the base backups and the WAL, which are always encrypted.
    """

    postgres: Postgres
    redis: Redis
    store: ObjectStore
    secret_key: str
    scratch: Path
    stripe: str
    frontend: str
    pace: int = 2
    worker_timeout: int = 6
    beat_grace: int = 20
    identity: pyrage.x25519.Identity = field(default_factory=pyrage.x25519.Identity.generate)


def machine(scratch: Path) -> dict[str, str]:
    """The base of every environment."""
    kept = {name: os.environ[name] for name in MACHINE if name in os.environ}
    return {**kept, "TMPDIR": str(scratch), "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}


def app(sources: Sources) -> Mapping[str, str]:
    """For manage.py, gunicorn, the workers and beat."""
    return {
        **machine(sources.scratch),
        "DJANGO_SETTINGS_MODULE": "config.settings.development",
        "DEBUG": "false",
        "SECRET_KEY": sources.secret_key,
        "ALLOWED_HOSTS": "127.0.0.1,localhost",
        "DATABASE_URL": sources.postgres.url,
        "REDIS_URL": sources.redis.url,
        "CELERY_BROKER_URL": sources.redis.url,
        "API_THROTTLE_USER": "off",
        "API_THROTTLE_AI": "off",
        "PUBLISH_DUE_INTERVAL": str(sources.pace),
        "HOUSEKEEPING_INTERVAL": str(2 * sources.pace),
        # Sandbox providers take as long as a fast real one, so that queues build up.
        "SANDBOX_LATENCY": "0.2",
        "AI_DAILY_CAPTIONS_FREE": "100000",
        "AI_DAILY_CAPTIONS_PAID": "100000",
        "AI_VIDEO_POLL": "1",
        "MEDIA_STORE_URL": f"s3://{MEDIA_BUCKET}/demo",
        "MEDIA_S3_ENDPOINT_URL": sources.store.endpoint,
        "MEDIA_S3_ACCESS_KEY_ID": sources.store.access_key,
        "MEDIA_S3_SECRET_ACCESS_KEY": sources.store.secret_key,
        "MEDIA_S3_REGION": "us-east-1",
        "STRIPE_API_BASE": sources.stripe,
        "STRIPE_SECRET_KEY": KEY,
        "STRIPE_WEBHOOK_SECRET": SECRET,
        "STRIPE_PRICE_PRO": PRICE,
        "API_THROTTLE_BILLING": "off",
        "FRONTEND_URL": sources.frontend,
        "DEMO_PASSWORD": DEMO_PASSWORD,
    }


def exporter(sources: Sources) -> Mapping[str, str]:
    """For ``python -m exporters``."""
    return {
        **machine(sources.scratch),
        "CELERY_EXPORTER_HOST": HOST,
        "CELERY_EXPORTER_BROKER_URL": sources.redis.url,
        "CELERY_EXPORTER_DATABASE_URL": sources.postgres.url,
        "CELERY_EXPORTER_WORKER_TIMEOUT": str(sources.worker_timeout),
        "CELERY_EXPORTER_BEAT_GRACE": str(sources.beat_grace),
        "CELERY_EXPORTER_QUEUE_INTERVAL": "1",
    }


def backup(sources: Sources, folder: Path) -> Mapping[str, str]:
    """For ``python -m backup``, the service and its commands alike."""
    return {
        **machine(sources.scratch),
        "BACKUP_DATABASE_URLS": f"{DATABASE_NAME}={sources.postgres.url}",
        "BACKUP_STORE_URL": f"s3://{BUCKET}/demo",
        "BACKUP_S3_ENDPOINT_URL": sources.store.endpoint,
        "BACKUP_S3_ACCESS_KEY_ID": sources.store.access_key,
        "BACKUP_S3_SECRET_ACCESS_KEY": sources.store.secret_key,
        "BACKUP_POSTGRES_BIN": str(postgres_bin()),
        "BACKUP_CATALOGUE_REFRESH": str(sources.pace),
        "BACKUP_SPOOL_DIR": str(folder / "spool"),
        "PATH": os.pathsep.join([str(find("redis-cli").parent), os.environ.get("PATH", os.defpath)]),
    }


def recovery(sources: Sources, folder: Path) -> Mapping[str, str]:
    """For ``wal serve``, and for the commands that recover to a point in time. They have a part of the bucket to themselves."""
    return {
        **backup(sources, folder),
        "BACKUP_SERVERS": f"{SERVER_NAME}={sources.postgres.url_for('postgres')}",
        "BACKUP_STORE_URL": f"s3://{BUCKET}/wal",
        "BACKUP_AGE_RECIPIENTS": str(sources.identity.to_public()),
        "BACKUP_AGE_IDENTITY": str(sources.identity),
    }


def scripts(sources: Sources, folder: Path, urls: Mapping[str, str]) -> Mapping[str, str]:
    """For the scripts in runbooks/: the sidecar's variables, and the addresses of the parts."""
    return {
        **backup(sources, folder),
        **urls,
        "OPS_PYTHON": sys.executable,
        "OPS_POSTGRES_URL": sources.postgres.url_for("postgres"),
        "OPS_REDIS_FOLDER": str(sources.redis.folder),
        "OPS_REDIS_SERVER": str(find("redis-server")),
        "OPS_REDIS_CLI": str(find("redis-cli")),
    }
