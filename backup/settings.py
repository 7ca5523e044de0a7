"""The backup sidecar's settings, each an environment variable (or its ``_FILE`` twin)."""

import shlex
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AliasChoices, BeforeValidator, Field, SecretStr, field_validator, model_validator

from backup import cron
from backup.policy.retention import Policy
from backup.spans import SPANS, parse_span
from sidecar.settings import Settings


def _split(value: Any) -> Any:
    """Split a text at commas and white space."""
    return tuple(value.replace(",", " ").split()) if isinstance(value, str) else value


Words = Annotated[tuple[str, ...], BeforeValidator(_split)]


class BackupSettings(Settings):
    """All settings of the backup sidecar."""

    env_prefix = "BACKUP_"

    database_urls: SecretStr | None = Field(
        None,
        description="Databases to back up: `name=url`, separated by commas. For a single database, set DATABASE_URL instead",
    )
    database_url: SecretStr | None = Field(
        None,
        description="The database to back up. Its name in the store is the name of the database",
        validation_alias="DATABASE_URL",
    )
    exclude_tables: Words = Field(
        (),
        description="Tables to leave out of backups: `schema.table`, where `*` and `?` match any characters. Partitions and children are left out too",
    )
    exclude_rows: Words = Field(
        (),
        description="Tables whose rows are left out, but not their definitions; written like BACKUP_EXCLUDE_TABLES",
    )
    before_command: str | None = Field(
        None,
        description="Command to run before each backup; if it does not exit with 0, no backup is taken. It is not run by a shell",
    )
    after_command: str | None = Field(
        None,
        description="Command to run after each backup, also after a failed one: `HOOK_OUTCOME` is `success` or `failure`",
    )
    discover_url: SecretStr | None = Field(
        None,
        description="A PostgreSQL server, all of whose databases are backed up, also those that are created later: `postgresql://…/postgres`",
    )
    discover_skip: Words = Field(
        ("postgres",),
        description="Databases of that server to leave out; `*` and `?` match any characters",
    )
    redis_urls: SecretStr | None = Field(
        None,
        description="Redis servers to back up: `name=url`, separated by commas",
    )
    servers: SecretStr | None = Field(
        None,
        description="PostgreSQL servers (15 or newer) whose WAL is streamed to the store, for point-in-time recovery: `name=url`, separated by commas. The role needs REPLICATION. Encryption is required",
    )
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
        description="`never`: delete nothing from the stores, for a key that cannot; prune elsewhere, with another key",
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
        description="Number of attempts of a store operation before it counts as failed",
    )
    store_timeout: float = Field(
        60.0,
        gt=0,
        description="Seconds to wait for an answer of the store",
    )
    schedule: str = Field(
        "0 2 * * *",
        description="When backups are taken (cron: minute hour day month weekday)",
    )
    timezone: str = Field("UTC", description="Time zone of the schedules")
    verify_after_backup: bool = Field(
        True,
        description="Verify each backup that the service takes as soon as it is complete",
    )
    host: str = Field(
        "127.0.0.1",
        description="Address that the service listens on; the image sets 0.0.0.0",
    )
    port: int = Field(
        9809,
        ge=0,
        le=65535,
        description="Port of the metrics and the status page",
    )
    web_config_file_path: str | None = Field(
        None,
        description="Prometheus web-config file (TLS, basic auth) for the metrics and the status page; empty: no password and no TLS",
    )
    postgres_bin: Path | None = Field(
        None,
        description="Folder of PostgreSQL's client and server programs; empty: PATH",
    )
    redis_bin: Path | None = Field(
        None,
        description="Folder of Redis's or Valkey's server and check-rdb programs for verification; empty: PATH",
    )
    redis_modules: str = Field(
        "",
        description="Module files that the throwaway Redis loads, separated by blanks, such as `/usr/lib/redis/rejson.so`",
    )
    catalogue_refresh: float = Field(
        30.0,
        gt=0,
        description="Seconds between two reads of the catalogue in the store",
    )
    zstd_level: int = Field(
        2,
        ge=1,
        le=19,
        description="zstd level; 3 compresses 3 % better and takes 1.5 times as long",
    )
    threads: int = Field(
        0,
        ge=0,
        le=64,
        description="Compression threads; 0: one per core",
    )
    upload_threads: int = Field(
        3,
        ge=1,
        le=16,
        description="Number of parts uploaded at the same time",
    )
    work_dir: Path | None = Field(
        None,
        description="Folder for the throwaway server of a verification, and for encrypted parts of a dump that is faster than the store; empty: the system's temporary folder, and the dump waits for the store",
    )
    work_dir_floor: float = Field(
        5.0,
        ge=0,
        le=90,
        description="Percent of that folder's disk that stay free: a verification or restore that needs more is stopped; 0 does not look",
    )
    restore_jobs: int = Field(
        0,
        ge=0,
        le=64,
        description="Parallel restore jobs; 0: one per core",
    )
    verify_schedule: str = Field(
        "0 5 * * 0",
        description="When unverified backups and a sample of older ones are verified",
    )
    verify_url: SecretStr | None = Field(
        None,
        description="Server to verify on, `postgresql://…`; empty: a throwaway server for each verification",
    )
    verify_options: str = Field(
        "",
        description="Settings of the throwaway server, `name=value; …`, such as `shared_preload_libraries=pgaudit`",
    )
    verify_checks_dir: Path | None = Field(
        None,
        description="Folder of `*.sql` files, each a query that must return true in a restored database",
    )
    verify_command: str | None = Field(
        None,
        description="Command that must exit with 0 when `DATABASE_URL` names a restored database, such as `python manage.py migrate --check`",
    )
    restore_url: SecretStr | None = Field(
        None,
        description="For restores: production's database, with a role that may create and rename databases; it may be on another server. Empty: the database that is backed up. If several databases are backed up, each keeps its own name",
    )
    prune_schedule: str = Field(
        "30 4 * * *",
        description="When backups that no retention rule keeps are deleted",
    )
    offsite_schedule: str = Field(
        "*/15 * * * *",
        description="When backups are copied off-site",
    )
    wal_interval: float = Field(
        1.0,
        ge=0.1,
        le=300,
        description="Seconds between two uploads of WAL that does not fill a segment: what a loss of the whole host loses at most, about",
    )
    wal_keep: timedelta = Field(
        timedelta(days=7),
        description="How far back each moment of a server can be recovered: `36h`, `14d`, `2w`",
    )
    wal_port: int = Field(
        9811,
        ge=0,
        le=65535,
        description="Port of the metrics of `wal serve`",
    )
    verify_sample: int = Field(
        1,
        ge=0,
        description="Number of older backups of each database that the verify schedule verifies again",
    )
    timeout: float = Field(
        21600,
        gt=0,
        description="Maximum duration of a run in seconds; an open snapshot delays vacuum",
    )
    stall_timeout: float = Field(
        1800,
        gt=0,
        description="Seconds without a byte or an answer of the database and of the store, after which a run has failed. Raise it if a dump is silent for longer, as in a large table of deleted rows",
    )
    age_recipients: Words = Field(
        (),
        description="age public keys (`age1…`) that backups are encrypted to; empty: NOT encrypted",
    )
    age_identity: SecretStr | None = Field(
        None,
        description="age identity that decrypts backups for verification and restore: the output of `age-keygen`",
    )
    manifest_key: SecretStr | None = Field(
        None,
        description="Key that signs manifests, reports and records, at least 32 characters. Older keys that are still trusted may follow, separated by commas. Empty: nothing is signed",
    )
    keep_last: int = Field(
        3,
        ge=0,
        description="Number of most recent verified backups to keep",
    )
    keep_hourly: int = Field(
        0,
        ge=0,
        description="Number of hourly backups to keep",
    )
    keep_daily: int = Field(
        7,
        ge=0,
        description="Number of daily backups to keep",
    )
    keep_weekly: int = Field(
        4,
        ge=0,
        description="Number of weekly backups to keep",
    )
    keep_monthly: int = Field(
        6,
        ge=0,
        description="Number of monthly backups to keep",
    )
    keep_yearly: int = Field(
        0,
        ge=0,
        description="Number of yearly backups to keep",
    )
    keep_within: timedelta = Field(
        timedelta(0),
        description="Keep every backup taken within this time of the newest: `36h`, `14d`, `2w`",
    )
    keep_floor: int = Field(
        2,
        ge=1,
        description="Minimum number of verified backups to keep",
    )
    anomaly_drop: float = Field(
        0.5,
        ge=0,
        lt=1,
        description="A size or a number of rows below this share of the recent median is an anomaly",
    )
    anomaly_growth: float = Field(
        5.0,
        gt=1,
        description="A size or a number of rows above this multiple of the recent median is an anomaly",
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
    notify_urls: SecretStr | None = Field(
        None,
        description="Who is notified of a backup that failed, is late, or differs, without Prometheus: addresses of Apprise, "
        "separated by white space, such as mailtos://… or slack://…",
    )
    ping_url: SecretStr | None = Field(
        None,
        description="Requested after a backup was taken and verified: an external dead man's switch",
    )
    ping_start_url: SecretStr | None = Field(None, description="Requested when a run begins")
    ping_failure_url: SecretStr | None = Field(
        None,
        description="Receives the reason when a run or its verification fails",
    )
    catch_up: bool = Field(
        True,
        description="Catch up on a run that was missed while the service was down",
    )
    rto_target: float = Field(
        3600, gt=0, description="Target for the duration of a restore, in seconds (RTO)"
    )
    rpo_target: float = Field(
        93600,
        gt=0,
        description="Target for the age of the newest backup, in seconds (RPO); an older one is overdue",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO",
        description="Minimum severity of log messages",
        validation_alias=AliasChoices("LOG_LEVEL"),
    )

    def policy(self) -> Policy:
        """The retention policy of these settings."""
        return Policy(
            last=self.keep_last,
            hourly=self.keep_hourly,
            daily=self.keep_daily,
            weekly=self.keep_weekly,
            monthly=self.keep_monthly,
            yearly=self.keep_yearly,
            within=self.keep_within,
            floor=self.keep_floor,
            rpo=timedelta(seconds=self.rpo_target),
            verify_within=timedelta(seconds=self.rpo_target),
            zone=ZoneInfo(self.timezone),
        )

    @field_validator("schedule", "verify_schedule", "prune_schedule", "offsite_schedule")
    @classmethod
    def _cron(cls, value: str) -> str:
        if cron.parse(value).next_after(datetime(2000, 1, 1, tzinfo=UTC), ZoneInfo("UTC")) is None:
            raise ValueError("this day does not exist, so the schedule would never run")
        return value

    @property
    def notify_addresses(self) -> tuple[str, ...]:
        """The addresses in BACKUP_NOTIFY_URLS; each is a secret."""
        return tuple(self.notify_urls.get_secret_value().split()) if self.notify_urls else ()

    @field_validator("ping_url", "ping_start_url", "ping_failure_url")
    @classmethod
    def _web(cls, value: SecretStr | None) -> SecretStr | None:
        if value and not value.get_secret_value().startswith(("http://", "https://")):
            raise ValueError("use an address that begins with https://")
        return value

    @field_validator("before_command", "after_command")
    @classmethod
    def _command(cls, value: str | None) -> str | None:
        try:
            words = shlex.split(value or "")
        except ValueError as error:
            raise ValueError(f"not a valid command: {error}") from None
        return value if words else None

    @field_validator("keep_within", "wal_keep", mode="before")
    @classmethod
    def _within(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        found = parse_span(value)
        if found is None:
            raise ValueError(f"use {SPANS}")
        return found

    @model_validator(mode="after")
    def _contradictions(self) -> Self:
        counts = (self.keep_last, self.keep_hourly, self.keep_daily, self.keep_weekly, self.keep_monthly)
        if not any(counts) and not self.keep_yearly and not self.keep_within:
            raise ValueError(
                "retention keeps nothing: every BACKUP_KEEP_* is 0; set one, e.g. BACKUP_KEEP_DAILY=7"
            )
        if self.keep_floor > sum(counts) + self.keep_yearly and not self.keep_within:
            raise ValueError(
                f"BACKUP_KEEP_FLOOR={self.keep_floor} contradicts the other BACKUP_KEEP_*, which keep fewer"
            )
        if self.s3_sse_kms_key_id and self.s3_sse not in {"aws:kms", "aws:kms:dsse"}:
            raise ValueError("BACKUP_S3_SSE_KMS_KEY_ID has no effect without BACKUP_S3_SSE=aws:kms")
        same_server = (self.offsite_s3_endpoint_url or self.s3_endpoint_url) == self.s3_endpoint_url
        if self.offsite_store_url and self.offsite_store_url == self.store_url and same_server:
            raise ValueError(
                "BACKUP_OFFSITE_STORE_URL is the main store; the off-site copy needs another place"
            )
        return self

    @field_validator("timezone")
    @classmethod
    def _zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError):
            raise ValueError("not a known time zone") from None
        return value
