"""The prefix of a bucket that a store uses: its client, the names of objects, and the errors of calls."""

from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from hashlib import md5
from typing import TYPE_CHECKING, Any

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, NoCredentialsError
from botocore.session import Session
from botocore.utils import parse_timestamp

from backup import __version__
from backup.errors import StoreAccessError, StoreError
from backup.store.options import S3Options
from backup.store.s3.answers import NOT_S3, store_error
from backup.store.s3.direct import Direct
from sidecar.address import is_near

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

CONNECTIONS = 32


class Bucket:
    """A prefix of one bucket.

    Attributes:
        name: the name of the bucket.
        prefix: what the names of all objects begin with, with a slash at the end; may be empty.
        url: its address, without secrets.
        client: botocore's client.
        direct: reads small objects faster.
    """

    def __init__(self, name: str, prefix: str, options: S3Options) -> None:
        self.name = name
        self.prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self.url = f"s3://{name}/{prefix}".rstrip("/")
        self.options = options
        self.client = client_for(options)
        self.direct = Direct(self.client, name)

    def key(self, key: str) -> str:
        """The name of an object in the bucket, from its key in the store."""
        return f"{self.prefix}{key}"

    def own(self, name: str) -> str:
        """The key in the store, from the name of an object in the bucket."""
        return name.removeprefix(self.prefix)

    @contextmanager
    def explained(self, operation: str, key: str) -> Iterator[None]:
        """Turn the failures of calls into errors of the store.

        Raises:
            StoreError: a call in the block failed.
        """
        where = f"{operation} of {key or '/'} in {self.url}"
        try:
            yield
        except ClientError as error:
            raise store_error(error, operation, where) from error
        except NoCredentialsError as error:
            raise StoreAccessError(
                f"{where}: no credentials",
                hint="set BACKUP_S3_ACCESS_KEY_ID and BACKUP_S3_SECRET_ACCESS_KEY_FILE",
                operation=operation,
            ) from error
        except (BotoCoreError, HTTPClientError, OSError) as error:
            raise StoreError(
                f"{where}: {type(error).__name__}: {_short(error)}",
                hint=f"check that {self.options.endpoint_url or 'the S3 service'} is reachable from here",
                operation=operation,
                transient=True,
            ) from error
        except (KeyError, ValueError) as error:
            # A field that every server sends is missing, or is not what it should be.
            raise self.not_s3(operation, f"{where}: ", f": {_short(error)}") from error

    def pages(self, listing: str, operation: str, **request: Any) -> Iterator[Any]:
        """The pages of a listing, complete.

        Args:
            listing: the name of botocore's call.

        Raises:
            StoreError: the listing ends early, or is not a listing. What it lacks would seem to be missing.
        """
        truncated = False
        for page in self.client.get_paginator(listing).paginate(Bucket=self.name, **request):  # type: ignore[call-overload]  # the name is a variable
            self.check_listing(page, operation)
            truncated = page.get("IsTruncated", False)
            yield page
        if truncated:
            raise StoreError(
                f"{operation} in {self.url}: the store's listing is incomplete, and does not say how it continues",
                hint="do not use this store, or the proxy in front of it: backups would seem to be missing",
                operation=operation,
                transient=True,
            )

    def check_listing(self, page: Any, operation: str) -> None:
        """Check that an answer is that of an S3 server: botocore takes any other document for an empty listing."""
        if page.keys() <= {"ResponseMetadata"}:
            raise self.not_s3(operation)

    def not_s3(self, operation: str, where: str = "", why: str = "") -> StoreError:
        """The error for a successful answer without what S3's has."""
        return StoreError(
            f"{where or f'{operation} in {self.url}: '}the answer is not that of an S3 server{why}",
            hint=NOT_S3,
            operation=operation,
        )


def proof(data: bytes | bytearray) -> dict[str, Any]:
    """The digest that a bucket with Object Lock requires with each body."""
    return {"ContentMD5": b64encode(md5(data, usedforsecurity=False).digest()).decode()}


def client_for(options: S3Options) -> "S3Client":
    """A client that tries each call once."""
    session = Session()
    session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=moment)
    config = Config(
        connect_timeout=options.connect_timeout,
        read_timeout=options.read_timeout,
        # One attempt: RetryingStore retries and counts failures for all stores.
        retries={"mode": "standard", "total_max_attempts": 1},
        request_checksum_calculation=options.checksum,
        # Every byte is compared with the manifest's SHA-256. Some servers answer a range request with the checksum of the whole object.
        response_checksum_validation="when_required",
        s3={
            "addressing_style": "path" if options.path_style else "virtual",
            # Every byte is already hashed for the manifest, and TLS protects the transfer.
            "payload_signing_enabled": False,
        },
        max_pool_connections=CONNECTIONS,
        # botocore composes its own name again for each request, which takes a tenth of the CPU time of many small ones.
        user_agent=f"posthub-backup/{__version__}",
        # A store on this machine or in its network is never reached through a proxy.
        proxies={} if options.endpoint_url and is_near(options.endpoint_url) else None,
    )
    # botocore is the core of boto3; it starts in half the time, and boto3's upload helpers are not needed here.
    client: Any = session.create_client(
        "s3",
        endpoint_url=options.endpoint_url,
        # Most compatible servers ignore the region, but a signature must name one.
        region_name=options.region or ("us-east-1" if options.endpoint_url else None),
        aws_access_key_id=options.access_key_id,
        aws_secret_access_key=options.secret_access_key,
        aws_session_token=options.session_token,
        config=config,
    )
    client.meta.events.register("before-call.s3.DeleteObjects", _add_digest)
    client.meta.events.register("before-call.s3.HeadBucket", _follow_no_further)
    return client  # type: ignore[no-any-return]  # botocore creates its clients at run time


def moment(text: str) -> datetime:
    """The moment that a server names. botocore's parser guesses the format of each, in most of the time of a listing.

    Raises:
        ValueError: the text is not a moment.
    """
    try:
        found = datetime.fromisoformat(text) if text[10:11] == "T" else parsedate_to_datetime(text)
    except ValueError:
        found = parse_timestamp(text)
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def _add_digest(params: dict[str, Any], **_: object) -> None:
    """The digest that older servers require with a bulk delete, and that newer SDKs no longer send."""
    body = params["body"]
    data = body if isinstance(body, bytes) else body.encode()
    params["headers"].update({"Content-MD5": proof(data)["ContentMD5"]})


def _follow_no_further(params: dict[str, Any], **_: object) -> None:
    """botocore asks for the bucket's region after a redirect, and would then repeat that forever if it is redirected too."""
    params["context"].setdefault("s3_redirect", {})["redirected"] = True


def _short(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) < 300 else f"{text[:300]}…"
