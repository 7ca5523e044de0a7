"""What the error codes of S3 servers mean."""

from botocore.exceptions import ClientError

from backup.errors import NotFoundError, StoreAccessError, StoreError

NO_LOCKS = "set BACKUP_S3_OBJECT_LOCK_DAYS=0, or use a bucket that was created with Object Lock on a store that has it"
MISSING = {"NoSuchKey", "404", "NotFound", "NoSuchUpload"}
REFUSED = {
    "AccessDenied",
    "403",
    "Forbidden",
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "NoSuchBucket",
    "InvalidBucketName",
    "AuthorizationHeaderMalformed",
    "PermanentRedirect",
    "InvalidStorageClass",
}
TRY_AGAIN = {
    "SlowDown",
    "RequestTimeout",
    "InternalError",
    "ServiceUnavailable",
    "Throttling",
    "TooManyRequests",
    "RequestTimeTooSkewed",
    "OperationAborted",
}
# Answers of a server without retention locks or upload listings.
UNSUPPORTED = {"NotImplemented", "MethodNotAllowed", "405", "501"}
# Answers to a bulk delete that may be refused where single deletes are not.
NO_BULK = {*UNSUPPORTED, "AccessDenied", "403", "MalformedXML", "InvalidArgument"}


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
    if code in REFUSED:
        hint = "check the bucket name, the region, the access key and its privileges"
        return StoreAccessError(message, hint=hint, operation=operation)
    if code in MISSING:
        return NotFoundError(message, hint="list the backups: python -m backup list", operation=operation)
    hint = "check the log of the S3 server" if status >= 500 else "run: python -m backup doctor"
    if (
        "ObjectLock" in message
        or "Object Lock" in message
        or (code == "InvalidRequest" and operation in ("begin", "put"))
    ):
        hint = NO_LOCKS
    transient = status >= 500 or status == 429 or code in TRY_AGAIN
    return StoreError(
        message, hint=hint, operation=operation, transient=transient and code not in UNSUPPORTED
    )
