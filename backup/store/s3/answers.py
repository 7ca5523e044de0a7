"""What the error codes of S3 servers mean."""

from typing import Any
from urllib.parse import urlsplit

from botocore.exceptions import ClientError

from backup.errors import NotFoundError, StoreAccessError, StoreError

NO_LOCKS = "set BACKUP_S3_OBJECT_LOCK_DAYS=0, or use a bucket that was created with Object Lock on a store that has it"
NOT_S3 = (
    "check BACKUP_S3_ENDPOINT_URL: it must be the address of the S3 server itself, not of its web console"
)
RIGHTS = "check the bucket name, the region, the access key and its privileges"
MISSING = {"NoSuchKey", "404", "NotFound", "NoSuchUpload"}
# Temporary credentials that were valid earlier.
_OUTDATED = {"ExpiredToken", "ExpiredTokenException", "InvalidToken", "TokenRefreshRequired"}
_OTHER_REGION = {
    "AuthorizationHeaderMalformed",
    "PermanentRedirect",
    "TemporaryRedirect",
    "IllegalLocationConstraintException",
    "301",
    "302",
    "307",
    "308",
}
# Responses of stores that require the bucket's name in the host name.
_OTHER_ADDRESS = {"SecondLevelDomainForbidden", "InvalidPathAccess", "PathStyleNotSupported"}
_OTHER_CLASS = {"InvalidStorageClass", "InvalidObjectState"}
REFUSED = {
    "AccessDenied",
    "403",
    "Forbidden",
    "401",
    "Unauthorized",
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "NoSuchBucket",
    "InvalidBucketName",
    *_OUTDATED,
    *_OTHER_REGION,
    *_OTHER_ADDRESS,
    *_OTHER_CLASS,
}
_BUSY = {"SlowDown", "Throttling", "ThrottlingException", "TooManyRequests", "RequestLimitExceeded", "429"}
TRY_AGAIN = {
    *_BUSY,
    "RequestTimeout",
    "InternalError",
    "ServiceUnavailable",
    "RequestTimeTooSkewed",
    "OperationAborted",
}
# Answers of a server without retention locks or upload listings.
UNSUPPORTED = {"NotImplemented", "MethodNotAllowed", "405", "501"}
# Answers to a bulk delete that may be refused where single deletes are not.
NO_BULK = {*UNSUPPORTED, "AccessDenied", "403", "MalformedXML", "InvalidArgument"}
_HINTS = (
    (_OUTDATED, "renew the temporary credentials: they have expired, or their session token is wrong"),
    ({"RequestTimeTooSkewed"}, "synchronise the clocks (NTP): this host's clock and the store's disagree"),
    (_OTHER_ADDRESS, "set BACKUP_S3_PATH_STYLE=false"),
    (_OTHER_CLASS, "set BACKUP_S3_STORAGE_CLASS to a class that the store has, and that can be read at once"),
    ({"NoSuchBucket"}, "create the bucket, or correct its name in the store's URL"),
    (_BUSY, "the store limits the number of requests: raise its limit, or BACKUP_STORE_ATTEMPTS"),
    (
        {"QuotaExceeded", "XMinioStorageFull", "StorageFull", "InsufficientStorage", "507"},
        "free space in the store, or raise the bucket's quota",
    ),
    (
        {"413", "EntityTooLarge", "RequestEntityTooLarge", "MaxMessageLengthExceeded"},
        "allow larger requests: the store, or a proxy in front of it, refuses one of this size",
    ),
)


def code_of(error: ClientError) -> str:
    """The error code in a response; empty if there is none."""
    return str(error.response.get("Error", {}).get("Code", ""))


def store_error(error: ClientError, operation: str, where: str) -> StoreError:
    """The error for a response.

    Args:
        where: what was asked of which object, for the message.
    """
    code = code_of(error)
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    message = f"{where}: {code}: {error.response.get('Error', {}).get('Message', '')}".rstrip(": ")
    hint = _hint(error, message, operation)
    if code in REFUSED or code.startswith("KMS."):
        return StoreAccessError(message, hint=hint or RIGHTS, operation=operation)
    if code in MISSING:
        return NotFoundError(message, hint="list the backups: python -m backup list", operation=operation)
    if not hint:
        hint = "check the log of the S3 server" if status >= 500 else "run: python -m backup doctor"
    transient = status >= 500 or status == 429 or code in TRY_AGAIN
    return StoreError(
        message, hint=hint, operation=operation, transient=transient and code not in UNSUPPORTED
    )


def _hint(error: ClientError, message: str, operation: str) -> str:
    """What to do about an answer that has one known cause; empty for any other."""
    code = code_of(error)
    for codes, hint in _HINTS:
        if code in codes:
            return hint
    if code in _OTHER_REGION:
        return _region_hint(error.response)
    if code.startswith("KMS.") or "kms:" in message:
        return "allow this key to use the encryption key (kms:GenerateDataKey, kms:Decrypt), or correct BACKUP_S3_SSE_KMS_KEY_ID"
    if "ObjectLock" in message or "Object Lock" in message:
        return NO_LOCKS
    if code == "InvalidRequest" and operation in ("begin", "put"):
        return NO_LOCKS
    # botocore takes a page that is not XML for a server's failure.
    headers = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    return NOT_S3 if code == "500" and "html" in headers.get("content-type", "") else ""


def _region_hint(response: Any) -> str:
    headers = response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    region = response.get("Error", {}).get("Region") or headers.get("x-amz-bucket-region")
    if not region and (elsewhere := urlsplit(headers.get("location", ""))).netloc:
        return f"set BACKUP_S3_ENDPOINT_URL to where it redirects: {elsewhere.scheme}://{elsewhere.netloc}"
    which = f"the bucket's region is {region}" if region else "the bucket is in another region"
    return f"{which}: set BACKUP_S3_REGION, and BACKUP_S3_ENDPOINT_URL if it names a region; for the off-site store, BACKUP_OFFSITE_S3_REGION"
