"""Checks of services outside: the bucket, and the receivers of notifications."""

from collections.abc import Iterator
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from sidecar.address import is_near
from stack.doctor.check import Case, Check

FIXED = {
    "ALERTMANAGER_PAGERDUTY_ROUTING_KEY": ("events.pagerduty.com", 443),
    "ALERTMANAGER_TELEGRAM_BOT_TOKEN": ("api.telegram.org", 443),
}
ADDRESSES = (
    "ALERTMANAGER_SLACK_URL",
    "ALERTMANAGER_WEBHOOK_URL",
    "ALERTMANAGER_HEARTBEAT_URL",
    "BACKUP_PING_URL",
)
SMARTHOST = "ALERTMANAGER_SMTP_SMARTHOST"


def examine(case: Case) -> Iterator[Check]:
    if case.settings.get("BACKUP_STORE_URL", "").startswith("s3://"):
        yield bucket(case, "bucket", "BACKUP", urlsplit(case.settings["BACKUP_STORE_URL"]).netloc)
    yield from _destinations(case)


def bucket(case: Case, what: str, prefix: str, name: str) -> Check:
    """Whether a bucket exists and its key is accepted. `prefix` begins the names of its variables."""
    try:
        _client(case, prefix).head_bucket(Bucket=name)
    except ClientError as error:
        return Check(
            what, False, f"{name}: {error.response['Error']['Code']}", "create it; check key and region"
        )
    except (BotoCoreError, ValueError) as error:
        return Check(
            what,
            False,
            f"{name}: {type(error).__name__}",
            f"check {prefix}_S3_ENDPOINT_URL and the network",
        )
    return Check(what, True, name)


def _client(case: Case, prefix: str):  # type: ignore[no-untyped-def]  # botocore creates its clients at run time
    settings = case.settings
    endpoint = settings.get(f"{prefix}_S3_ENDPOINT_URL") or None
    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name=settings.get(f"{prefix}_S3_REGION") or None,
        aws_access_key_id=settings.get(f"{prefix}_S3_ACCESS_KEY_ID") or None,
        aws_secret_access_key=settings.get(f"{prefix}_S3_SECRET_ACCESS_KEY") or None,
        config=Config(
            connect_timeout=5,
            read_timeout=10,
            retries={"max_attempts": 1},
            proxies={} if endpoint and is_near(endpoint) else None,
        ),
    )


def _destinations(case: Case) -> Iterator[Check]:
    for variable, (host, port) in FIXED.items():
        if case.settings.get(variable):
            yield _answers(case, variable, host, port)
    for variable in (*ADDRESSES, SMARTHOST):
        if text := case.settings.get(variable):
            yield _addressed(case, variable, text)


def _addressed(case: Case, variable: str, text: str) -> Check:
    address = urlsplit(f"smtp://{text}" if variable == SMARTHOST else text)
    try:
        port = address.port or (443 if address.scheme == "https" else 80)
    except ValueError:
        port = 0
    if not address.hostname or not port:
        # Not shown: the address of a receiver is a secret.
        return Check(
            variable, False, "is not a valid address", "host:port" if variable == SMARTHOST else "https://…"
        )
    return _answers(case, variable, address.hostname, port)


def _answers(case: Case, variable: str, host: str, port: int) -> Check:
    if case.host.connects(host, port):
        return Check(f"{host}:{port}", True, f"answers ({variable})")
    return Check(
        f"{host}:{port}", False, f"does not answer ({variable})", "check the address and the firewall"
    )
