"""Object Lock: whether a bucket locks and keeps versions, and whether an object is really locked."""

from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from botocore.exceptions import ClientError

from backup.errors import StoreError
from backup.store.s3.answers import NO_LOCKS, REFUSED, TRY_AGAIN, code_of, store_error
from backup.store.s3.bucket import Bucket

# The mode of a lock, and its end; None if there is no lock.
_Lock = tuple[str, datetime | None]
# Servers round the end of a lock.
_ROUNDED = timedelta(seconds=2)
# The mode that was set, and the one that was asked for.
_WEAKER = ("GOVERNANCE", "COMPLIANCE")


class Locks:
    """The locks of one bucket. The bucket is asked about its settings only once."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        # Not known before the bucket is queried.
        self._locking: bool | None = None
        self._versioning: bool | None = None
        self._hidden = False

    def enabled(self) -> bool:
        """Whether the bucket has Object Lock."""
        if self._locking is None:
            try:
                settings = self._settings()
            except ClientError as error:
                if store_error(error, "delete", self._bucket.name).transient:
                    raise
                # No lock, a server without locks, or no privilege to ask: then our own request shows it.
                self._locking = self._bucket.options.object_lock
                self._hidden = code_of(error) in REFUSED
            else:
                self._locking = _enabled(settings) or self._bucket.options.object_lock
        return self._locking

    def may_be_enabled(self) -> bool:
        """Whether the bucket has Object Lock, or the key may not ask."""
        return self.enabled() or self._hidden

    def versioned(self) -> bool:
        """Whether the bucket keeps versions. On some servers, it may lock objects without versions."""
        if self._versioning is None:
            try:
                answer = self._bucket.client.get_bucket_versioning(Bucket=self._bucket.name)
            except ClientError as error:
                if store_error(error, "delete", self._bucket.name).transient:
                    raise
                # The key may not ask. Assume Amazon's rule, where a lock requires versions.
                self._versioning = not code_of(error).startswith(("Versioning", "NotImplemented"))
            else:
                self._versioning = answer.get("Status") in ("Enabled", "Suspended")
        return self._versioning

    def confirm(self, key: str, until: datetime) -> None:
        """Check that an object is locked as it was asked for: some servers accept a lock and set none, or a weaker one.

        Raises:
            StoreError: it is not.
        """
        bucket = self._bucket
        with bucket.explained("retention", key):
            try:
                answer = bucket.client.get_object_retention(Bucket=bucket.name, Key=bucket.key(key))
            except ClientError as error:
                if code_of(error) in TRY_AGAIN - {"InternalError"}:
                    raise
                if code_of(error) in REFUSED:
                    return  # a key with write access only
                mode, found = self._lock_in_head(key)  # servers without this call answer in different ways
            else:
                mode, found = _lock_of(answer.get("Retention", {}), "Mode", "RetainUntilDate")
        if found is None:
            problem = "the store accepted a retention lock and did not set it"
        elif found < until - _ROUNDED or (mode, bucket.options.object_lock_mode) == _WEAKER:
            problem = f"the store accepted a retention lock and set a weaker one: {mode}, until {found:%Y-%m-%d %H:%M}"
        else:
            return
        raise StoreError(f"{key} in {bucket.url}: {problem}", hint=NO_LOCKS, operation="lock")

    def default_retention(self) -> str:
        """A description of the bucket's default lock; empty if there is none, or it is not known."""
        with suppress(ClientError):
            rule = self._settings().get("Rule", {}).get("DefaultRetention", {})
            if days := rule.get("Days"):
                return f"{days} days"
            if years := rule.get("Years"):
                return f"{years} years"
        return ""

    def _lock_in_head(self, key: str) -> _Lock:
        """The lock that an object reports, if the bucket has locks; if it has none, the object's answer means nothing."""
        bucket = self._bucket
        try:
            settings = self._settings()
            head = bucket.client.head_object(Bucket=bucket.name, Key=bucket.key(key))
        except ClientError:
            return "", None
        return _lock_of(head if _enabled(settings) else {}, "ObjectLockMode", "ObjectLockRetainUntilDate")

    def _settings(self) -> Any:
        answer = self._bucket.client.get_object_lock_configuration(Bucket=self._bucket.name)
        return answer.get("ObjectLockConfiguration", {})


def _lock_of(answer: Any, mode: str, until: str) -> _Lock:
    return str(answer.get(mode, "")), answer.get(until)


def _enabled(settings: Any) -> bool:
    return bool(settings.get("ObjectLockEnabled") == "Enabled")
