"""Settings of the receivers. A secret is given as NAME, in the file NAME_FILE, or in a folder of secrets."""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator

from alerts.login import LoginSettings
from sidecar.settings import variables

SECRETS_FOLDER = Path("/run/secrets")
OFF = ("", "off", "none", "no")


class ReceiverSettings(LoginSettings):
    """Receivers of notifications. A receiver without its secret is off."""

    env_prefix: ClassVar[str] = "ALERTMANAGER_"

    slack_url: SecretStr | None = Field(
        None,
        description="Slack's incoming webhook. Enables Slack.",
    )
    slack_channel: str = Field(
        "#alerts",
        description="Slack channel.",
    )
    pagerduty_routing_key: SecretStr | None = Field(
        None,
        description="Key of a PagerDuty Events API v2 integration. Enables PagerDuty.",
    )
    telegram_bot_token: SecretStr | None = Field(
        None,
        description="Token of a Telegram bot. Enables Telegram.",
    )
    telegram_chat_id: int | None = Field(
        None,
        description="Chat that the bot writes to; groups have negative numbers.",
    )
    email_to: str | None = Field(
        None,
        description="Recipients of e-mail, separated by commas.",
    )
    email_from: str | None = Field(
        None,
        description="Sender of e-mail; by default the user name.",
    )
    smtp_smarthost: str | None = Field(
        None,
        description="Mail server as host:port. Enables e-mail.",
    )
    smtp_username: str | None = Field(
        None,
        description="User at the mail server.",
    )
    smtp_password: SecretStr | None = Field(
        None,
        description="Password at the mail server.",
    )
    smtp_require_tls: bool = Field(
        True,
        description="Refuse a mail server without STARTTLS.",
    )
    webhook_url: SecretStr | None = Field(
        None,
        description="Address that accepts Alertmanager's webhook JSON. Enables the webhook.",
    )
    heartbeat_url: SecretStr | None = Field(
        None,
        description="Ping URL of a dead man's switch (healthchecks style), called every minute while alerting works.",
    )
    watch_url: str | None = Field(
        None,
        validation_alias="ALERTS_WATCH_URL",
        description="Address of `python -m alerts watch`, which then pings the dead man's switch.",
    )
    quiet_hours: str = Field(
        "22:00-07:00",
        description="Hours in which warnings are held back; `off` sends them at any hour.",
    )
    timezone: str = Field(
        "UTC",
        description="Time zone of the quiet hours, such as Europe/Prague.",
    )

    @field_validator("slack_url", "webhook_url", "heartbeat_url")
    @classmethod
    def _secret_address(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            _check_address(value.get_secret_value())
        return value

    @field_validator("watch_url")
    @classmethod
    def _address(cls, value: str | None) -> str | None:
        if value is not None:
            _check_address(value)
        return value

    @field_validator("smtp_smarthost")
    @classmethod
    def _host_and_port(cls, value: str | None) -> str | None:
        host, colon, port = (value or "").rpartition(":")
        if value is not None and not (host and colon and port.isdigit() and int(port) < 65536):
            raise ValueError("must be host:port such as mail.example.com:587")
        return value

    @field_validator("quiet_hours")
    @classmethod
    def _hours(cls, value: str) -> str:
        hours_of(value)
        return value


def with_folder(environ: Mapping[str, str], folder: Path = SECRETS_FOLDER) -> dict[str, str]:
    """The environment, plus ``NAME_FILE`` entries for the secrets in a folder."""
    return {**environ, **in_folder(folder, environ)}


def in_folder(folder: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """``NAME_FILE`` entries for the secrets in a folder that are not set otherwise.

    The file of the variable NAME is named after it in lower case.
    """
    found = {}
    for variable in variables(ReceiverSettings):
        name = variable.names[0]
        path = folder / name.lower()
        if not environ.get(name) and not environ.get(f"{name}_FILE") and path.is_file():
            found[f"{name}_FILE"] = str(path)
    return found


def hours_of(text: str) -> tuple[str, str] | None:
    """Parse ``22:00-07:00`` into ("22:00", "07:00"); None if quiet hours are off."""
    if text.strip().lower() in OFF:
        return None
    start, dash, end = (part.strip() for part in text.partition("-"))
    if not dash or not (_is_clock(start) and _is_clock(end)) or start == end:
        raise ValueError("must be two different times such as 22:00-07:00, or off")
    return start, end


def _check_address(text: str) -> None:
    """Reject invalid addresses early: one of them makes Alertmanager refuse its whole configuration."""
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or text != text.strip():
        raise ValueError("must be an address such as https://example.com/path")


def _is_clock(text: str) -> bool:
    hour, colon, minute = text.partition(":")
    return (
        bool(colon)
        and len(hour) == len(minute) == 2
        and (hour + minute).isdigit()
        and int(hour) < 24
        and int(minute) < 60
    )
