"""Where backups are kept: the main store, the spool and the off-site store."""

from pathlib import Path
from typing import Literal, Self

from pydantic import AliasChoices, Field, SecretStr, model_validator

from sidecar.settings import Settings


class StoreSettings(Settings):
    """A part of :class:`backup.settings.BackupSettings`."""

    store_url: str | None = Field(
        None,
        description="Where backups are kept: `s3://bucket/prefix` or `file:///folder`",
    )
    s3_endpoint_url: str | None = Field(
        None,
        description="S3-compatible server; empty: Amazon S3",
    )
    s3_region: str | None = Field(
        None, description="S3 region", validation_alias=AliasChoices("AWS_DEFAULT_REGION")
    )
    s3_access_key_id: SecretStr | None = Field(
        None,
        description="S3 access key ID; empty: what boto3 finds (instance role, profile)",
    )
    s3_secret_access_key: SecretStr | None = Field(None, description="S3 secret key")
    s3_checksum: Literal["when_required", "when_supported"] = Field(
        "when_required",
        description="S3 checksum headers; older compatible servers reject `when_supported`",
    )
    s3_path_style: bool = Field(
        True,
        description="Address buckets by path, as most compatible servers require",
    )
    s3_storage_class: str | None = Field(
        None,
        description="S3 storage class of archives",
    )
    s3_sse: Literal["AES256", "aws:kms", "aws:kms:dsse"] | None = Field(
        None,
        description="Server-side encryption: `AES256` or `aws:kms`",
    )
    s3_sse_kms_key_id: str | None = Field(None, description="Key for `aws:kms`")
    s3_max_parts: int = Field(
        10_000,
        ge=100,
        le=10_000,
        description="Maximum number of parts of an object; some stores allow 1000",
    )
    delete: Literal["yes", "never"] = Field(
        "yes",
        description="`never`: delete nothing from the stores, for a key without that permission; prune elsewhere, with another key",
    )
    s3_object_lock_days: int = Field(
        0,
        ge=0,
        description="Number of days for which the store is asked to lock each backup (Object Lock); 0: no lock",
    )
    s3_object_lock_mode: Literal["GOVERNANCE", "COMPLIANCE"] = Field(
        "GOVERNANCE",
        description="Object Lock mode",
    )
    store_attempts: int = Field(
        5,
        ge=1,
        le=20,
        description="Number of attempts at a store operation before it counts as failed",
    )
    store_timeout: float = Field(
        60.0,
        gt=0,
        description="Seconds to wait for a response from the store",
    )
    spool_dir: Path | None = Field(
        None,
        description="Folder that takes backups while the store is unavailable; empty: none",
    )
    offsite_store_url: str | None = Field(
        None,
        description="A second store that every backup is copied to",
    )
    offsite_s3_endpoint_url: str | None = Field(
        None,
        description="S3 server of the off-site store; empty: the same as the main store, as for the next three",
    )
    offsite_s3_region: str | None = Field(None, description="S3 region of the off-site store")
    offsite_s3_access_key_id: SecretStr | None = Field(
        None, description="S3 access key ID of the off-site store"
    )
    offsite_s3_secret_access_key: SecretStr | None = Field(
        None, description="S3 secret key of the off-site store"
    )

    @model_validator(mode="after")
    def _one_place_each(self) -> Self:
        if self.s3_sse_kms_key_id and self.s3_sse not in {"aws:kms", "aws:kms:dsse"}:
            raise ValueError("BACKUP_S3_SSE_KMS_KEY_ID has no effect without BACKUP_S3_SSE=aws:kms")
        same_server = (self.offsite_s3_endpoint_url or self.s3_endpoint_url) == self.s3_endpoint_url
        if self.offsite_store_url and self.offsite_store_url == self.store_url and same_server:
            raise ValueError(
                "BACKUP_OFFSITE_STORE_URL is the main store; the off-site copy needs another place"
            )
        return self
