"""The backup sidecar's settings, each an environment variable (or its ``_FILE`` twin)."""

from datetime import timedelta
from typing import Literal
from zoneinfo import ZoneInfo

from pydantic import AliasChoices, Field

from backup.policy.retention import Policy
from backup.settings.archives import ArchiveSettings
from backup.settings.proofs import ProofSettings
from backup.settings.retention import RetentionSettings
from backup.settings.service import ServiceSettings
from backup.settings.sources import SourceSettings
from backup.settings.stores import StoreSettings
from sidecar import logs


# pydantic puts the fields of the last base first.
class BackupSettings(
    RetentionSettings, ProofSettings, ServiceSettings, ArchiveSettings, StoreSettings, SourceSettings
):
    """All settings of the backup sidecar."""

    env_prefix = "BACKUP_"

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO",
        description="Minimum severity of log messages",
        validation_alias=AliasChoices("LOG_LEVEL"),
    )
    log_format: logs.Form = Field(
        "text",
        description="`text`, or `json` for the log lines of `serve` and `wal serve`; commands always print text",
        validation_alias=AliasChoices("LOG_FORMAT"),
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
