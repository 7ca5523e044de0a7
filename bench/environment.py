"""The environment of our commands in a benchmark."""

import os
from pathlib import Path

import pyrage

from stack.paths import ROOT
from stack.programs import postgres_bin
from stack.servers import ObjectStore

BUCKET = "bench"


def environment(store: ObjectStore, recipient: str) -> dict[str, str]:
    """For backups into a bucket of a store, which is created if it is missing.

    Args:
        recipient: the public key to encrypt with.
    """
    store.bucket(BUCKET)
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "BACKUP_STORE_URL": f"s3://{BUCKET}/ours",
        "BACKUP_S3_ENDPOINT_URL": store.endpoint,
        "BACKUP_S3_ACCESS_KEY_ID": store.access_key,
        "BACKUP_S3_SECRET_ACCESS_KEY": store.secret_key,
        "BACKUP_POSTGRES_BIN": str(postgres_bin()),
        "BACKUP_AGE_RECIPIENTS": recipient,
    }


def restoring(store: ObjectStore, folder: Path) -> dict[str, str]:
    """For backups and restores: the variables above with a new key pair, and a work folder below ``folder``."""
    identity = pyrage.x25519.Identity.generate()
    work = folder / "work"
    work.mkdir(exist_ok=True)
    return {
        **environment(store, str(identity.to_public())),
        "BACKUP_WORK_DIR": str(work),
        "BACKUP_AGE_IDENTITY": str(identity),
    }
