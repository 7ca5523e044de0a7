"""What the error codes of S3 servers mean: whether another attempt may succeed, and whose fault it is."""

import pytest
from botocore.exceptions import ClientError

from backup.errors import NotFoundError, StoreAccessError, StoreError
from backup.store.s3 import answers


def error(code: str, status: int) -> StoreError:
    response = {
        "Error": {"Code": code, "Message": "no"},
        "ResponseMetadata": {"HTTPStatusCode": status},
    }
    return answers.store_error(ClientError(response, "Operation"), "put", "key")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("code", "status"),
    [
        *((code, 503) for code in ("SlowDown", "ServiceUnavailable", "InternalError", "502", "")),
        *((code, 400) for code in ("RequestTimeout", "Throttling", "ThrottlingException", "TooManyRequests")),
        ("RequestTimeTooSkewed", 403),
        ("RequestLimitExceeded", 400),
        ("OperationAborted", 409),
        ("429", 429),
        # Not every store has a code for it.
        ("Busy", 429),
    ],
)
def test_what_may_pass_is_tried_again(code: str, status: int) -> None:
    found = error(code, status)
    assert type(found) is StoreError
    assert found.transient


@pytest.mark.parametrize(
    ("code", "status"), [("InvalidPart", 400), ("EntityTooLarge", 413), ("NotImplemented", 501), ("501", 501)]
)
def test_what_stays_is_not_tried_again(code: str, status: int) -> None:
    found = error(code, status)
    assert type(found) is StoreError
    assert not found.transient


@pytest.mark.parametrize("code", ["NoSuchKey", "404", "NotFound", "NoSuchUpload"])
def test_what_is_missing_is_not_a_failure_of_the_store(code: str) -> None:
    """An upload that another process has ended is gone, and so is an object that was deleted."""
    assert isinstance(error(code, 404), NotFoundError)


@pytest.mark.parametrize("code", sorted(answers.REFUSED))
def test_a_refusal_has_advice_and_is_not_tried_again(code: str) -> None:
    found = error(code, 403)
    assert isinstance(found, StoreAccessError)
    assert found.hint
    assert not found.transient
