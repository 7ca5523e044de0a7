"""Renders Alertmanager's configuration from alertmanager.yml and the receivers that are enabled.

An integration without its secret is left out. A secret given as a file stays in that file if Alertmanager can read
it there; a secret from the environment is written into the result, which only its owner can read.
"""

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import yaml

from alerts.paths import ALERTMANAGER, TEMPLATES
from alerts.receivers import ReceiverSettings, hours_of
from sidecar import OpsError, UsageError

QUIET = "quiet-hours"
HEARTBEAT = "heartbeat"
Block = dict[str, Any]
# Alertmanager 0.25 has these `_file` options; those for Telegram and the webhook are newer.
FILE_OPTIONS = {
    "api_url": "ALERTMANAGER_SLACK_URL",
    "routing_key": "ALERTMANAGER_PAGERDUTY_ROUTING_KEY",
    "auth_password": "ALERTMANAGER_SMTP_PASSWORD",
    # The password of the watch.
    "password": "ALERTS_PASSWORD",
}


@dataclass(frozen=True)
class Channel:
    """A notification channel.

    Args:
        name: its name in messages.
        key: its key in an Alertmanager receiver.
        switch: the variable that enables it.
        fill: returns a copy of a block with addresses and secrets.
        is_on: whether the settings enable it.
    """

    name: str
    key: str
    switch: str
    fill: Callable[[Block, ReceiverSettings], Block]
    is_on: Callable[[ReceiverSettings], bool]


def _slack(block: Block, settings: ReceiverSettings) -> Block:
    return {**block, "api_url": _reveal(settings.slack_url), "channel": settings.slack_channel}


def _pagerduty(block: Block, settings: ReceiverSettings) -> Block:
    return {**block, "routing_key": _reveal(settings.pagerduty_routing_key)}


def _telegram(block: Block, settings: ReceiverSettings) -> Block:
    return {
        **block,
        "bot_token": _reveal(settings.telegram_bot_token),
        "chat_id": settings.telegram_chat_id,
    }


def _email(block: Block, settings: ReceiverSettings) -> Block:
    filled = {
        **block,
        "to": settings.email_to,
        "smarthost": settings.smtp_smarthost,
        "from": settings.email_from or settings.smtp_username,
        "require_tls": settings.smtp_require_tls,
    }
    if settings.smtp_username and settings.smtp_password:
        filled |= {
            "auth_username": settings.smtp_username,
            "auth_password": _reveal(settings.smtp_password),
        }
    return filled


def _webhook(block: Block, settings: ReceiverSettings) -> Block:
    return {**block, "url": _reveal(settings.webhook_url)}


CHANNELS = (
    Channel(
        "PagerDuty",
        "pagerduty_configs",
        "ALERTMANAGER_PAGERDUTY_ROUTING_KEY",
        _pagerduty,
        lambda s: bool(s.pagerduty_routing_key),
    ),
    Channel(
        "Telegram",
        "telegram_configs",
        "ALERTMANAGER_TELEGRAM_BOT_TOKEN",
        _telegram,
        lambda s: bool(s.telegram_bot_token),
    ),
    Channel("Slack", "slack_configs", "ALERTMANAGER_SLACK_URL", _slack, lambda s: bool(s.slack_url)),
    Channel(
        "e-mail", "email_configs", "ALERTMANAGER_SMTP_SMARTHOST", _email, lambda s: bool(s.smtp_smarthost)
    ),
    Channel(
        "webhook", "webhook_configs", "ALERTMANAGER_WEBHOOK_URL", _webhook, lambda s: bool(s.webhook_url)
    ),
)


def on_and_off(settings: ReceiverSettings) -> tuple[list[str], list[tuple[str, str]]]:
    """The names of the enabled channels, and of the disabled ones with the variable that enables them."""
    on = [channel.name for channel in CHANNELS if channel.is_on(settings)]
    off = [(channel.name, channel.switch) for channel in CHANNELS if not channel.is_on(settings)]
    if settings.heartbeat_url:
        on.append("dead man's switch")
    else:
        off.append(("dead man's switch", "ALERTMANAGER_HEARTBEAT_URL"))
    return on, off


def read_by_alertmanager(environ: Mapping[str, str]) -> dict[str, str]:
    """The secrets given as files that every supported Alertmanager can read from a file."""
    paths = {option: environ.get(f"{variable}_FILE", "") for option, variable in FILE_OPTIONS.items()}
    return {option: path for option, path in paths.items() if path}


def configuration(
    settings: ReceiverSettings, files: Mapping[str, str] | None = None, source: Path = ALERTMANAGER
) -> Block:
    """Alertmanager's configuration.

    Args:
        settings: the receivers.
        files: option without ``_file`` → path, see :func:`read_by_alertmanager`.
        source: the configuration with all receivers.

    Raises:
        UsageError: settings contradict each other, the time zone is unknown, or the source is not an Alertmanager configuration.
    """
    _check(settings)
    document = _source(source)
    document["receivers"] = [_receiver(receiver, settings) for receiver in document["receivers"]]
    # Each receiver has its own addresses.
    for name in ("smtp_smarthost", "smtp_from"):
        document["global"].pop(name, None)
    _set_quiet_hours(document, settings)
    finished: Block = _with_files(document, files or {})
    return finished


def _source(path: Path) -> Block:
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(
            f"{path}: {error.strerror}", hint="name the alertmanager.yml that ops-init wrote"
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError):
        document = None
    if not isinstance(document, dict) or not document.keys() >= {"global", "route", "receivers"}:
        raise UsageError(
            f"{path} is not an Alertmanager configuration",
            hint="name the alertmanager.yml that ops-init wrote",
        )
    return document


def write(target: Path, document: Block, templates: Path = TEMPLATES) -> None:
    """Write a configuration that only its owner can read, and the templates next to it.

    Args:
        templates: the folder in which its templates are.

    Raises:
        OpsError: the folder is not writable.
    """
    text = "# Rendered by `python -m alerts render`; change its source or the environment instead.\n"
    text += yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=110)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.new")
        temporary.unlink(missing_ok=True)
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
            stream.write(text)
        temporary.replace(target)
        copy = target.parent / TEMPLATES.name
        if templates.is_dir() and templates.resolve() != copy.resolve():
            shutil.copytree(templates, copy, dirs_exist_ok=True)
    except OSError as error:
        raise OpsError(f"cannot write {target}: {error.strerror}", hint="choose a writable folder") from None


def _receiver(receiver: Block, settings: ReceiverSettings) -> Block:
    if receiver["name"] == HEARTBEAT:
        return _heartbeat(receiver, settings)
    kept: Block = {"name": receiver["name"]}
    for channel in CHANNELS:
        if channel.key in receiver and channel.is_on(settings):
            kept[channel.key] = [channel.fill(block, settings) for block in receiver[channel.key]]
    return kept


def _heartbeat(receiver: Block, settings: ReceiverSettings) -> Block:
    if not settings.heartbeat_url:
        return {"name": receiver["name"]}
    url = (
        f"{settings.watch_url.rstrip('/')}/watchdog"
        if settings.watch_url
        else _reveal(settings.heartbeat_url)
    )
    blocks = [{**block, "url": url, **_login(settings)} for block in receiver["webhook_configs"]]
    return {**receiver, "webhook_configs": blocks}


def _login(settings: ReceiverSettings) -> Block:
    if not settings.watch_url or not settings.login:
        return {}
    username, password = settings.login
    return {"http_config": {"basic_auth": {"username": username, "password": password}}}


def _set_quiet_hours(document: Block, settings: ReceiverSettings) -> None:
    hours = hours_of(settings.quiet_hours)
    if hours is None:
        document["time_intervals"] = []
        for route in document["route"]["routes"]:
            route.pop("mute_time_intervals", None)
        return
    for interval in document["time_intervals"]:
        if interval["name"] == QUIET:
            interval["time_intervals"] = [{"times": _times(*hours), "location": settings.timezone}]


def _times(start: str, end: str) -> list[dict[str, str]]:
    """Split a range at midnight: Alertmanager's ranges cannot cross it."""
    if start < end:
        return [{"start_time": start, "end_time": end}]
    ranges = [{"start_time": start, "end_time": "24:00"}]
    if end != "00:00":
        ranges.append({"start_time": "00:00", "end_time": end})
    return ranges


def _with_files(value: Any, files: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {
            (f"{key}_file" if key in files else key): (
                files[key] if key in files else _with_files(item, files)
            )
            for key, item in value.items()
        }
    return [_with_files(item, files) for item in value] if isinstance(value, list) else value


def _check(settings: ReceiverSettings) -> None:
    if settings.telegram_bot_token and settings.telegram_chat_id is None:
        raise UsageError(
            "ALERTMANAGER_TELEGRAM_BOT_TOKEN is set but ALERTMANAGER_TELEGRAM_CHAT_ID is not",
            hint="send the bot a message and read the chat's id from https://api.telegram.org/bot<token>/getUpdates",
        )
    if settings.smtp_smarthost and not settings.email_to:
        raise UsageError(
            "ALERTMANAGER_SMTP_SMARTHOST is set but ALERTMANAGER_EMAIL_TO is not",
            hint="set at least one address",
        )
    if settings.smtp_smarthost and not (settings.email_from or settings.smtp_username):
        raise UsageError(
            "e-mail has no sender address", hint="set ALERTMANAGER_EMAIL_FROM or ALERTMANAGER_SMTP_USERNAME"
        )
    if settings.timezone == "UTC":
        return
    try:
        ZoneInfo(settings.timezone)
    except (KeyError, ValueError, OSError):
        raise UsageError(
            f"ALERTMANAGER_TIMEZONE={settings.timezone} is not a time zone",
            hint="use a name such as Europe/Prague",
        ) from None


def _reveal(secret: Any) -> str:
    return str(secret.get_secret_value())
