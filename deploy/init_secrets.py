#!/usr/bin/env python
"""Writes the secrets of each container to files, at each start, before anything else runs.

Secrets come from the environment (.env.production) or from an earlier run. Missing ones that nobody has to know are
generated and stored. ``values/`` in the folder has every secret, for the operator. Each other folder has the files that one
container mounts; its user owns them, and nobody else can read them. Usage: ``init_secrets.py [FOLDER] [VOLUMES]``.
"""

import json
import os
import secrets
import stat
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import bcrypt

# The user and group that each image runs as; see `user:` in docker-compose.prod.yml.
OWNERS = {
    "app": (10001, 10001),
    "exporter": (10002, 10002),
    "backup": (10003, 10003),
    "backup_wal": (10003, 10003),
    "postgres": (999, 999),
    "redis": (999, 1000),
    "caddy": (1000, 1000),
    "grafana": (472, 0),
    "alertmanager": (65534, 65534),
    "postgres_exporter": (65534, 65534),
    "redis_exporter": (59000, 59000),
}
# Volumes of earlier installations may belong to root.
VOLUMES = {
    "caddy_data": "caddy",
    "caddy_config": "caddy",
    "alertmanager_config": "alertmanager",
    "alert_watch_data": "alertmanager",
}

POSTGRES = "posthub_postgres_prod:5432"
REDIS = "posthub_redis_prod:6379"


def _password() -> str:
    return secrets.token_urlsafe(24)


def _key() -> str:
    return secrets.token_urlsafe(50)


def _nothing() -> str:
    return ""


# Every secret, and the function that generates it if it is not set. A secret that cannot be generated (_nothing) switches
# its part off if it is empty.
SECRETS: dict[str, Callable[[], str]] = {
    "SECRET_KEY": _key,
    "POSTGRES_PASSWORD": _password,
    "REDIS_PASSWORD": _password,
    "BACKUP_DB_PASSWORD": _password,
    "EXPORTER_DB_PASSWORD": _password,
    "WAL_DB_PASSWORD": _password,
    "GRAFANA_ADMIN_PASSWORD": _password,
    "OPS_PASSWORD": _password,
    "SECRET_KEY_FALLBACKS": _nothing,
    "FIELD_ENCRYPTION_KEYS": _nothing,
    "DATABASE_URL": _nothing,
    "REDIS_URL": _nothing,
    "CELERY_BROKER_URL": _nothing,
    "BACKUP_DATABASE_URLS": _nothing,
    "BACKUP_DISCOVER_URL": _nothing,
    "BACKUP_REDIS_URLS": _nothing,
    "BACKUP_SERVERS": _nothing,
    "BACKUP_S3_ACCESS_KEY_ID": _nothing,
    "BACKUP_S3_SECRET_ACCESS_KEY": _nothing,
    "BACKUP_AGE_IDENTITY": _nothing,
    "BACKUP_MANIFEST_KEY": _key,
    "BACKUP_OFFSITE_S3_ACCESS_KEY_ID": _nothing,
    "BACKUP_OFFSITE_S3_SECRET_ACCESS_KEY": _nothing,
    "BACKUP_RESTORE_URL": _nothing,
    "BACKUP_VERIFY_URL": _nothing,
    "BACKUP_PING_URL": _nothing,
    "BACKUP_PING_START_URL": _nothing,
    "BACKUP_PING_FAILURE_URL": _nothing,
    "BACKUP_NOTIFY_URLS": _nothing,
    "GEMINI_API_KEY": _nothing,
    "PERPLEXITY_API_KEY": _nothing,
    "NANOBANA_API_KEY": _nothing,
    "STRIPE_SECRET_KEY": _nothing,
    "MEDIA_S3_ACCESS_KEY_ID": _nothing,
    "MEDIA_S3_SECRET_ACCESS_KEY": _nothing,
    "SENTRY_DSN": _nothing,
    "ALERTMANAGER_SLACK_URL": _nothing,
    "ALERTMANAGER_PAGERDUTY_ROUTING_KEY": _nothing,
    "ALERTMANAGER_TELEGRAM_BOT_TOKEN": _nothing,
    "ALERTMANAGER_SMTP_PASSWORD": _nothing,
    "ALERTMANAGER_WEBHOOK_URL": _nothing,
    "ALERTMANAGER_HEARTBEAT_URL": _nothing,
    "ALERTS_READBACK_SLACK_URL": _nothing,
    "ALERTS_READBACK_SLACK_AUTHORIZATION": _nothing,
    "ALERTS_READBACK_PAGERDUTY_URL": _nothing,
    "ALERTS_READBACK_PAGERDUTY_AUTHORIZATION": _nothing,
    "ALERTS_READBACK_WEBHOOK_URL": _nothing,
    "ALERTS_READBACK_WEBHOOK_AUTHORIZATION": _nothing,
    "ALERTS_READBACK_EMAIL_URL": _nothing,
}


# The backup sidecar's own, whose files have names without the prefix.
BACKUP_SECRETS = [
    name
    for name in SECRETS
    if name.startswith(
        (
            "BACKUP_S3_",
            "BACKUP_OFFSITE_",
            "BACKUP_DISCOVER_",
            "BACKUP_NOTIFY_",
            "BACKUP_PING_",
            "BACKUP_AGE_",
            "BACKUP_MANIFEST_",
            "BACKUP_RESTORE_",
            "BACKUP_VERIFY_",
        )
    )
]
# Of them, those of the WAL stream.
WAL_SECRETS = [
    name for name in BACKUP_SECRETS if name.startswith(("BACKUP_S3_", "BACKUP_OFFSITE_", "BACKUP_MANIFEST_"))
]
# Where the alert watch checks that its test messages arrived.
READBACK_SECRETS = [name for name in SECRETS if name.startswith("ALERTS_READBACK_")]


class SetupError(Exception):
    """A mistake that the operator has to correct."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True)
class Place:
    """Where secrets are written, and whether to set owners (only root can)."""

    folder: Path
    own: bool

    def write(self, group: str, name: str, text: str) -> None:
        """Replace a file atomically: a container that starts meanwhile reads the old or the new one."""
        target = self.folder / group / name
        temporary = target.with_name(f".{name}.new")
        temporary.unlink(missing_ok=True)
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400), "w") as file:
            file.write(text)
        self._owner(temporary, group)
        temporary.replace(target)

    def make(self, group: str) -> None:
        folder = self.folder / group
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
        self._owner(folder, group)

    def remove_others(self, group: str, keep: set[str]) -> None:
        for file in (self.folder / group).iterdir():
            if file.name not in keep:
                file.unlink()

    def _owner(self, path: Path, group: str) -> None:
        if self.own and group in OWNERS:
            os.chown(path, *OWNERS[group])


def gather(environ: Mapping[str, str], values: Path) -> dict[str, str]:
    """Every secret: the one that is set, else the one of an earlier run, else a new one if it can be generated.

    Raises:
        SetupError: a value is still a placeholder.
    """
    return {name: _value(name, make, environ, values) for name, make in SECRETS.items()}


def _value(name: str, make: Callable[[], str], environ: Mapping[str, str], values: Path) -> str:
    given = environ.get(name, "").strip()
    if given.startswith("<") and given.endswith(">"):
        raise SetupError(f"{name} is still a placeholder", "replace it in .env.production, or leave it empty")
    if given or make is _nothing:
        return given
    kept = values / name
    return kept.read_text().strip() if kept.exists() else make()


def require_known_password(environ: Mapping[str, str], values: Path, data: Path) -> None:
    """Refuse to generate a password if a database exists: it has one, and another would lock everyone out.

    Raises:
        SetupError: there is a database and no password.
    """
    known = environ.get("POSTGRES_PASSWORD", "").strip() or (values / "POSTGRES_PASSWORD").exists()
    if (data / "PG_VERSION").exists() and not known:
        raise SetupError(
            "a database exists, and POSTGRES_PASSWORD is empty",
            "set POSTGRES_PASSWORD in .env.production to the database's password",
        )


def files(values: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """The files in each container's folder."""
    postgres, redis = values["POSTGRES_PASSWORD"], values["REDIS_PASSWORD"]
    database = values["DATABASE_URL"] or _database("posthub", postgres)
    redis_url = values["REDIS_URL"] or f"redis://:{quote(redis, safe='')}@{REDIS}/0"
    broker = values["CELERY_BROKER_URL"] or redis_url
    return {
        "postgres": {
            "postgres_password": postgres,
            "backup_db_password": values["BACKUP_DB_PASSWORD"],
            "exporter_db_password": values["EXPORTER_DB_PASSWORD"],
            "wal_db_password": values["WAL_DB_PASSWORD"],
        },
        "redis": {"redis_password": redis, "redis.conf": f"requirepass {_quoted(redis)}\n"},
        "app": {
            "database_url": database,
            "redis_url": redis_url,
            "celery_broker_url": broker,
            **_named(values, "SECRET_KEY", "GEMINI_API_KEY", "PERPLEXITY_API_KEY", "NANOBANA_API_KEY"),
            **_named(
                values, "STRIPE_SECRET_KEY", "SENTRY_DSN", "SECRET_KEY_FALLBACKS", "FIELD_ENCRYPTION_KEYS"
            ),
            **_named(values, "MEDIA_S3_ACCESS_KEY_ID", "MEDIA_S3_SECRET_ACCESS_KEY"),
        },
        "exporter": {
            "broker_url": broker,
            "database_url": _database("posthub_exporter", values["EXPORTER_DB_PASSWORD"]),
        },
        "backup": {
            "database_urls": _databases(values),
            "redis_urls": values["BACKUP_REDIS_URLS"] or f"posthub_redis={redis_url}",
            "servers": _servers(values),
            **{name.removeprefix("BACKUP_").lower(): values[name] for name in BACKUP_SECRETS},
        },
        # It streams, so it encrypts, and cannot decrypt.
        "backup_wal": {
            "servers": _servers(values),
            **{name.removeprefix("BACKUP_").lower(): values[name] for name in WAL_SECRETS},
        },
        "caddy": {"operators": operators(values["OPS_PASSWORD"])},
        "grafana": _named(values, "GRAFANA_ADMIN_PASSWORD"),
        # A receiver is switched on by its file.
        "alertmanager": {
            **{
                name.lower(): text
                for name, text in values.items()
                if name.startswith("ALERTMANAGER_") and text
            },
            **_named(values, *READBACK_SECRETS),
        },
        "postgres_exporter": _named(values, "EXPORTER_DB_PASSWORD"),
        "redis_exporter": {"redis_passwords.json": json.dumps({f"redis://{REDIS}": redis})},
    }


def _databases(values: Mapping[str, str]) -> str:
    """Databases to back up by name: this stack's own, unless others are named or all of a server are looked for."""
    if values["BACKUP_DATABASE_URLS"] or values["BACKUP_DISCOVER_URL"]:
        return values["BACKUP_DATABASE_URLS"]
    return "posthub=" + _database("posthub_backup", values["BACKUP_DB_PASSWORD"])


def _servers(values: Mapping[str, str]) -> str:
    """Servers to stream; a name alone is the database of this stack."""
    given = values["BACKUP_SERVERS"]
    if not given or "=" in given:
        return given
    return f"{given}=" + _database("posthub_wal", values["WAL_DB_PASSWORD"], "postgres")


def operators(password: str) -> str:
    """Caddy's basic authentication for the user ``ops``."""
    digest = bcrypt.hashpw(password.encode(), bcrypt.gensalt(10)).decode()
    return f"basic_auth {{\n\tops {digest}\n}}\n"


def _named(values: Mapping[str, str], *names: str) -> dict[str, str]:
    return {name.lower(): values[name] for name in names}


def _database(user: str, password: str, name: str = "posthub") -> str:
    return f"postgresql://{user}:{quote(password, safe='')}@{POSTGRES}/{name}"


def _quoted(text: str) -> str:
    """A quoted argument of redis.conf."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def write(place: Place, values: Mapping[str, str]) -> None:
    """Write everything, and remove files that are no longer needed."""
    place.folder.mkdir(exist_ok=True)
    place.folder.chmod(0o700)
    for group, contents in {"values": dict(values), **files(values)}.items():
        place.make(group)
        for name, text in contents.items():
            place.write(group, name, text)
        place.remove_others(group, set(contents))


def hand_over(volumes: Path) -> None:
    """Give data folders to the user that their container runs as."""
    for volume, group in VOLUMES.items():
        root = volumes / volume
        for path in (root, *root.rglob("*")) if root.is_dir() else ():
            if path.lstat().st_uid != OWNERS[group][0] and not stat.S_ISLNK(path.lstat().st_mode):
                os.chown(path, *OWNERS[group], follow_symlinks=False)


def main(arguments: list[str]) -> int:
    folder, volumes = (Path(text) for text in (*arguments, "/secrets", "/volumes")[:2])
    try:
        require_known_password(os.environ, folder / "values", volumes / "postgres")
        values = gather(os.environ, folder / "values")
    except SetupError as error:
        print(f"Error: {error}\nTry: {error.hint}", file=sys.stderr)
        return 2
    write(Place(folder, own=os.geteuid() == 0), values)
    hand_over(volumes)
    print(f"secrets written for {len(OWNERS)} containers", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
