"""Settings of ``python -m alerts watch``; those of the receivers are in alerts.receivers."""

from datetime import time
from pathlib import Path
from typing import Annotated

from pydantic import AliasChoices, BeforeValidator, Field, SecretStr

from alerts.login import LoginSettings
from sidecar import logs


def _clock(value: object) -> object:
    try:
        return time.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        raise ValueError("must be a time such as 09:30") from None


class WatchSettings(LoginSettings):
    """How the delivery of notifications is checked."""

    host: str = Field(
        "127.0.0.1",
        validation_alias="ALERTS_WATCH_HOST",
        description="Address to listen on; the image sets 0.0.0.0.",
    )
    port: int = Field(
        9810,
        ge=0,
        le=65535,
        validation_alias="ALERTS_WATCH_PORT",
        description="Port to listen on.",
    )
    web_config_file_path: str | None = Field(
        None,
        validation_alias="ALERTS_WATCH_WEB_CONFIG_FILE_PATH",
        description="Prometheus web-config file (TLS, basic auth) for the watch's pages; empty: no password and no TLS.",
    )
    alertmanager_url: str = Field(
        "http://posthub_alertmanager:9093",
        validation_alias="ALERTMANAGER_URL",
        description="Address of Alertmanager.",
    )
    heartbeat_url: SecretStr | None = Field(
        None,
        validation_alias="ALERTMANAGER_HEARTBEAT_URL",
        description="Ping URL of the dead man's switch, called whenever Watchdog arrives.",
    )
    canary_at: Annotated[time, BeforeValidator(_clock)] = Field(
        time(9, 30),
        validation_alias="ALERTS_CANARY_AT",
        description="Time of the daily test message (UTC).",
    )
    canary_every: float = Field(
        0,
        ge=0,
        validation_alias="ALERTS_CANARY_EVERY",
        description="Seconds between test messages; 0 = once a day.",
    )
    canary_patience: float = Field(
        600,
        gt=0,
        validation_alias="ALERTS_CANARY_PATIENCE",
        description="Seconds after which a test message counts as missing.",
    )
    state: Path | None = Field(
        None,
        validation_alias="ALERTS_WATCH_STATE",
        description="File for state that survives a restart, such as since when test messages are missing.",
    )
    slack_readback_url: SecretStr | None = Field(
        None,
        validation_alias="ALERTS_READBACK_SLACK_URL",
        description="URL that lists the channel's last messages, such as "
        "https://slack.com/api/conversations.history?channel=C…&limit=20.",
    )
    slack_readback_authorization: SecretStr | None = Field(
        None,
        validation_alias="ALERTS_READBACK_SLACK_AUTHORIZATION",
        description="Authorization header for that URL, such as `Bearer xoxb-…`.",
    )
    pagerduty_readback_url: SecretStr | None = Field(
        None,
        validation_alias="ALERTS_READBACK_PAGERDUTY_URL",
        description="URL that lists the last incidents, such as https://api.pagerduty.com/incidents?limit=20"
        "&sort_by=created_at:desc.",
    )
    pagerduty_readback_authorization: SecretStr | None = Field(
        None,
        validation_alias="ALERTS_READBACK_PAGERDUTY_AUTHORIZATION",
        description="Authorization header for that URL, such as `Token token=…`.",
    )
    webhook_readback_url: SecretStr | None = Field(
        None,
        validation_alias="ALERTS_READBACK_WEBHOOK_URL",
        description="URL that lists what the webhook's receiver got.",
    )
    webhook_readback_authorization: SecretStr | None = Field(
        None,
        validation_alias="ALERTS_READBACK_WEBHOOK_AUTHORIZATION",
        description="Authorization header for that URL.",
    )
    email_readback_url: SecretStr | None = Field(
        None,
        validation_alias="ALERTS_READBACK_EMAIL_URL",
        description="Mailbox as imaps://user:password@host/INBOX.",
    )
    log_level: str = Field(
        "INFO",
        validation_alias="ALERTS_LOG_LEVEL",
        description="Minimum severity of log messages.",
    )
    log_format: logs.Form = Field(
        "text",
        description="`text`, or `json` for the log lines of `watch`; commands always print text.",
        validation_alias=AliasChoices("ALERTS_LOG_FORMAT", "LOG_FORMAT"),
    )
