"""Deletes objects: many at once where the server allows it, and all versions where a bucket locks."""

from collections.abc import Iterator
from typing import Any

from botocore.exceptions import ClientError

from backup.errors import StoreError
from backup.store.base import Refusal
from backup.store.s3.answers import MISSING, NO_BULK, TRY_AGAIN, code_of, store_error
from backup.store.s3.bucket import Bucket
from backup.store.s3.locks import Locks

BATCH = 1000


def delete(bucket: Bucket, locks: Locks, keys: list[str]) -> list[Refusal]:
    """Delete objects; returns those that the store refuses to delete."""
    batches = [keys[at : at + BATCH] for at in range(0, len(keys), BATCH)]
    return [refusal for batch in batches for refusal in _delete_batch(bucket, locks, batch)]


def _delete_batch(bucket: Bucket, locks: Locks, keys: list[str]) -> list[Refusal]:
    with bucket.explained("delete", keys[0]):
        # In a bucket that locks, a delete without a version only hides the object: nothing would be refused,
        # and nothing ever freed. But not every such bucket keeps versions.
        if not locks.enabled() or not locks.versioned():
            return _delete_objects(bucket, [{"Key": bucket.key(key)} for key in keys])
        versions = [version for key in keys for version in _versions(bucket, bucket.key(key))]
        batches = [versions[at : at + BATCH] for at in range(0, len(versions), BATCH)]
        return [refusal for batch in batches for refusal in _delete_objects(bucket, batch)]


def _versions(bucket: Bucket, name: str) -> Iterator[dict[str, str]]:
    """All versions of an object, and the delete markers that hide it."""
    for page in bucket.pages("list_object_versions", "delete", Prefix=name):
        for item in (*page.get("Versions", []), *page.get("DeleteMarkers", [])):
            if item["Key"] == name:
                yield {"Key": name, "VersionId": item["VersionId"]}


def _delete_objects(bucket: Bucket, objects: list[dict[str, str]]) -> list[Refusal]:
    request: Any = {"Objects": objects, "Quiet": True}
    try:
        answer = bucket.client.delete_objects(Bucket=bucket.name, Delete=request)
    except ClientError as error:
        if code_of(error) not in NO_BULK:
            raise
        return [refusal for each in objects for refusal in _delete_one(bucket, each)]
    errors = [each for each in answer.get("Errors", []) if each.get("Code") not in MISSING]
    for each in errors:
        if each.get("Code") in TRY_AGAIN:
            # Deleting is idempotent: the whole request is repeated.
            raise StoreError(
                f"delete of {bucket.own(each['Key'])} in {bucket.url}: {each['Code']}: {each.get('Message', '')}",
                hint="check the log of the S3 server",
                operation="delete",
                transient=True,
            )
    return [
        Refusal(bucket.own(each["Key"]), each.get("Message") or each.get("Code", "refused"))
        for each in errors
    ]


def _delete_one(bucket: Bucket, wanted: dict[str, str]) -> list[Refusal]:
    """Delete one at a time, for servers and privileges without the bulk call."""
    try:
        bucket.client.delete_object(Bucket=bucket.name, **wanted)  # type: ignore[arg-type]  # a key and perhaps a version
    except ClientError as error:
        if code_of(error) in MISSING:
            return []
        if store_error(error, "delete", bucket.name).transient:
            raise
        message = error.response.get("Error", {}).get("Message") or code_of(error)
        return [Refusal(bucket.own(wanted["Key"]), message)]
    return []
