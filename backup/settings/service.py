"""When the service works, where it listens, and who is notified."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, SecretStr, field_validator

from backup import cron
from sidecar.settings import Settings


class ServiceSettings(Settings):
    """A part of :class:`backup.settings.BackupSettings`."""

    schedule: str = Field(
        "0 2 * * *",
        description="When backups are taken (cron: minute hour day month weekday)",
    )
    timezone: str = Field("UTC", description="Time zone of the schedules")
    verify_after_backup: bool = Field(
        True,
        description="Verify the backups that the service takes, once all backups of a round are complete",
    )
    verify_schedule: str = Field(
        "0 5 * * 0",
        description="When unverified backups and a sample of older ones are verified",
    )
    prune_schedule: str = Field(
        "30 4 * * *",
        description="When backups that no retention rule keeps are deleted",
    )
    offsite_schedule: str = Field(
        "*/15 * * * *",
        description="When backups are copied off-site",
    )
    catch_up: bool = Field(
        True,
        description="Catch up on a run that was missed while the service was down",
    )
    catalogue_refresh: float = Field(
        30.0,
        gt=0,
        description="Seconds between two reads of the catalogue in the store",
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
    wal_interval: float = Field(
        1.0,
        ge=0.1,
        le=300,
        description="Seconds between two uploads of WAL that does not fill a segment: roughly the most that is lost with the whole host",
    )
    wal_port: int = Field(
        9811,
        ge=0,
        le=65535,
        description="Port of the metrics of `wal serve`",
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

    @property
    def notify_addresses(self) -> tuple[str, ...]:
        """The addresses in BACKUP_NOTIFY_URLS; each is a secret."""
        return tuple(self.notify_urls.get_secret_value().split()) if self.notify_urls else ()

    @field_validator("schedule", "verify_schedule", "prune_schedule", "offsite_schedule")
    @classmethod
    def _cron(cls, value: str) -> str:
        if cron.parse(value).next_after(datetime(2000, 1, 1, tzinfo=UTC), ZoneInfo("UTC")) is None:
            raise ValueError("this day does not exist, so the schedule would never run")
        return value

    @field_validator("timezone")
    @classmethod
    def _zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError):
            raise ValueError("not a known time zone") from None
        return value

    @field_validator("ping_url", "ping_start_url", "ping_failure_url")
    @classmethod
    def _web(cls, value: SecretStr | None) -> SecretStr | None:
        if value and not value.get_secret_value().startswith(("http://", "https://")):
            raise ValueError("use an address that begins with https://")
        return value
