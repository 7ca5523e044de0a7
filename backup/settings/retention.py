"""Which backups are kept, and which ones are unusual or late."""

from datetime import timedelta
from typing import Self

from pydantic import Field, field_validator, model_validator

from backup.spans import SPANS, parse_span
from sidecar.settings import Settings


class RetentionSettings(Settings):
    """A part of :class:`backup.settings.BackupSettings`."""

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
    wal_keep: timedelta = Field(
        timedelta(days=7),
        description="How far back any moment of a server can be recovered: `36h`, `14d`, `2w`",
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
    rto_target: float = Field(
        3600, gt=0, description="Target for the duration of a restore, in seconds (RTO)"
    )
    rpo_target: float = Field(
        93600,
        gt=0,
        description="Target for the age of the newest backup, in seconds (RPO); an older one is overdue",
    )

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
    def _keeps_something(self) -> Self:
        counts = (self.keep_last, self.keep_hourly, self.keep_daily, self.keep_weekly, self.keep_monthly)
        if not any(counts) and not self.keep_yearly and not self.keep_within:
            raise ValueError(
                "retention keeps nothing: every BACKUP_KEEP_* is 0; set one, e.g. BACKUP_KEEP_DAILY=7"
            )
        if self.keep_floor > sum(counts) + self.keep_yearly and not self.keep_within:
            raise ValueError(
                f"BACKUP_KEEP_FLOOR={self.keep_floor} contradicts the other BACKUP_KEEP_*, which keep fewer"
            )
        return self
