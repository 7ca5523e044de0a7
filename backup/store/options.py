"""The options of a store in a bucket."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class S3Options:
    """How to reach a bucket and how to store in it. Without credentials, boto3 finds them (roles, profiles)."""

    endpoint_url: str | None = None
    region: str | None = None
    access_key_id: str | None = None
    secret_access_key: str | None = None
    session_token: str | None = None
    checksum: Literal["when_required", "when_supported"] = "when_required"
    path_style: bool = True
    storage_class: str | None = None
    sse: str | None = None
    sse_kms_key_id: str | None = None
    object_lock: bool = False
    object_lock_mode: Literal["GOVERNANCE", "COMPLIANCE"] = "GOVERNANCE"
    connect_timeout: float = 10.0
    read_timeout: float = 60.0
