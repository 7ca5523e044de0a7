#!/usr/bin/env python
"""Writes the secrets of each container to files, at each start, before anything else runs.

Secrets come from the environment (.env.production) or from an earlier run. Missing ones that no one has to know are generated and stored. ``values/`` in the folder has every secret, for the operator. Each other folder has the files that one
container mounts; its user owns them, and no one else can read them. Usage: ``init_secrets.py [FOLDER] [VOLUMES]``.
"""

import base64
import hashlib
import hmac
import json
import os
import secrets
import shutil
import stat
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import bcrypt

# The folder of each container's secrets, and the user and group that the container runs as: its `user:` in
# docker-compose.prod.yml. No two containers share a user, so none can read another's secrets.
OWNERS = {
    "api": (10001, 10001),
    "worker": (10011, 10001),
    "worker_ai": (10012, 10001),
    "beat": (10013, 10001),
    "flower": (10014, 10001),
    "migrate": (10015, 10001),
    "exporter": (10002, 10002),
    "backup": (10003, 10003),
    "backup_wal": (10004, 10003),
    "postgres": (999, 999),
    "db_roles": (59101, 59101),
    "redis": (59102, 1000),
    "caddy": (1000, 1000),
    "grafana": (472, 0),
    "prometheus": (59103, 65534),
    "alertmanager": (59104, 65534),
    "alert_watch": (59105, 65534),
    "postgres_exporter": (59106, 59106),
    "redis_exporter": (59000, 59000),
    "log_store": (59108, 59108),
    "log_gateway": (59109, 59109),
}
# The container that owns each volume. In earlier installations, some belong to root or to another user.
VOLUMES = {
    "caddy_data": "caddy",
    "caddy_config": "caddy",
    "alertmanager_config": "alertmanager",
    "alert_watch_data": "alert_watch",
    "log_data": "log_store",
}
# These are in use by the earlier container while its successor is prepared. They keep their owner, and the successor
# writes as a member of the same group.
SHARED_VOLUMES = {
    "prometheus_data": "prometheus",
    "alertmanager_data": "alertmanager",
    "redis_data": "redis",
}

POSTGRES = "posthub_postgres_prod:5432"
REDIS = "posthub_redis_prod:6379"
# The owner of the server and of every role. The app's role `posthub` owns only the app's database.
ADMIN = "posthub_admin"
# The user with which Prometheus, Alertmanager and the alert watch sign in to each other.
ALERTS = "alerts"


def _password() -> str:
    return secrets.token_urlsafe(24)


def _key() -> str:
    return secrets.token_urlsafe(50)


def _nothing() -> str:
    return ""


# Every secret, and the function that generates it if it is not set. A secret that cannot be generated (_nothing) disables its part if it is empty.
SECRETS: dict[str, Callable[[], str]] = {
    "SECRET_KEY": _key,
    "POSTGRES_PASSWORD": _password,
    "POSTGRES_ADMIN_PASSWORD": _password,
    "REDIS_PASSWORD": _password,
    "REDIS_APP_PASSWORD": _password,
    "REDIS_EXPORTER_PASSWORD": _password,
    "REDIS_BACKUP_PASSWORD": _password,
    "REDIS_METRICS_PASSWORD": _password,
    "ALERTS_PASSWORD": _password,
    "FLOWER_PASSWORD": _password,
    "BACKUP_DB_PASSWORD": _password,
    "EXPORTER_DB_PASSWORD": _password,
    "WAL_DB_PASSWORD": _password,
    "GRAFANA_ADMIN_PASSWORD": _password,
    "OPS_PASSWORD": _password,
    "LOGS_PASSWORD": _password,
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
    "VEO_API_KEY": _nothing,
    "STRIPE_SECRET_KEY": _nothing,
    "STRIPE_WEBHOOK_SECRET": _nothing,
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


# The keys of AI providers.
AI_KEYS = ("GEMINI_API_KEY", "PERPLEXITY_API_KEY", "NANOBANA_API_KEY", "VEO_API_KEY")
# The backup sidecar's secrets, whose files are named without the prefix.
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
# The ones that the WAL stream uses.
WAL_SECRETS = [
    name for name in BACKUP_SECRETS if name.startswith(("BACKUP_S3_", "BACKUP_OFFSITE_", "BACKUP_MANIFEST_"))
]
# Where the alert watch checks that its test messages arrived.
READBACK_SECRETS = [name for name in SECRETS if name.startswith("ALERTS_READBACK_")]

# Redis's users: the secret with each one's password, and what it may do. docs/exporter.md and docs/backup.md explain the
# sidecars' rights. The default user is the operator's, and the health check's.
REDIS_USERS = {
    "default": ("REDIS_PASSWORD", "~* &* +@all"),
    "app": ("REDIS_APP_PASSWORD", "~* &* +@all -@admin -@dangerous +info"),
    "exporter": (
        "REDIS_EXPORTER_PASSWORD",
        (
            "%R~* ~*reply.celery.pidbox* &/0.celeryev/* &/0.celeryev &/0.celery.pidbox -@all +psubscribe +ping +select"
            " +client|id +client|list +client|setname +client|setinfo +scan +smembers +llen +lindex +zcard +zrange +hmget"
            " +publish +sadd +srem +brpop +del"
        ),
    ),
    "backup": (
        "REDIS_BACKUP_PASSWORD",
        (
            "~posthub-ops:backup:lock resetchannels -@all +sync +psync +replconf +info +ping +select +client|setname"
            " +client|setinfo +set +get +del +expire"
        ),
    ),
    "metrics": (
        "REDIS_METRICS_PASSWORD",
        (
            "resetkeys resetchannels -@all +ping +info +select +config|get +client|setname +slowlog|len +slowlog|get"
            " +latency|latest +latency|histogram"
        ),
    ),
}


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

    def remove_other_folders(self, keep: set[str]) -> None:
        """Remove the secrets of containers that earlier versions had."""
        for folder in self.folder.iterdir():
            if folder.is_dir() and not folder.is_symlink() and folder.name not in keep:
                shutil.rmtree(folder)

    def _owner(self, path: Path, group: str) -> None:
        if self.own and group in OWNERS:
            os.chown(path, *OWNERS[group])


def gather(environ: Mapping[str, str], values: Path) -> dict[str, str]:
    """Every secret: the one that is set, else the one from an earlier run, else a new one if it can be generated.

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
    return {
        **_app(values),
        **_data(values),
        **_sidecars(values),
        **_monitoring(values),
        "caddy": {
            "operators": operators(values),
            "flower": base64.b64encode(_flower(values).encode()).decode(),
            "logs": base64.b64encode(f"logs:{values['LOGS_PASSWORD']}".encode()).decode(),
        },
        "grafana": _named(values, "GRAFANA_ADMIN_PASSWORD"),
    }


def _app(values: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """The app's containers have one image, but each gets only what its own code needs."""
    database = values["DATABASE_URL"] or _database("posthub", values["POSTGRES_PASSWORD"])
    addresses = {"database_url": database, "redis_url": _redis_app(values), **_broker(values)}
    errors = _named(values, "SENTRY_DSN")
    keys = _named(values, "SECRET_KEY", "SECRET_KEY_FALLBACKS", "FIELD_ENCRYPTION_KEYS")
    media = _named(values, "MEDIA_S3_ACCESS_KEY_ID", "MEDIA_S3_SECRET_ACCESS_KEY")
    # The API opens Stripe's pages and receives its events; the worker reads the subscriptions.
    stripe = _named(values, "STRIPE_SECRET_KEY")
    # Whether a provider can be used; only the AI worker calls one.
    configured = {name.lower(): "configured" if values[name] else "" for name in AI_KEYS}
    return {
        "api": {
            **addresses,
            **errors,
            **keys,
            **media,
            **configured,
            **stripe,
            **_named(values, "STRIPE_WEBHOOK_SECRET"),
        },
        "worker": {**addresses, **errors, **keys, **media, **configured, **stripe},
        "worker_ai": {
            **addresses,
            **errors,
            **media,
            **_own_key(values, "worker_ai"),
            **_named(values, *AI_KEYS),
        },
        "beat": {**addresses, **errors, **_own_key(values, "beat")},
        "migrate": {**addresses, **keys},
        "flower": {**_broker(values), "flower_login": _flower(values)},
    }


def _data(values: Mapping[str, str]) -> dict[str, dict[str, str]]:
    admin = _named(values, "POSTGRES_ADMIN_PASSWORD")
    return {
        # The app's password is for the first start, which creates its role.
        "postgres": {**admin, **_named(values, "POSTGRES_PASSWORD")},
        "db_roles": {
            **admin,
            **_named(
                values, "POSTGRES_PASSWORD", "BACKUP_DB_PASSWORD", "EXPORTER_DB_PASSWORD", "WAL_DB_PASSWORD"
            ),
            # For restores, which create databases.
            "restore_url": _database(ADMIN, values["POSTGRES_ADMIN_PASSWORD"]),
        },
        "redis": {**_named(values, "REDIS_PASSWORD"), "users.acl": redis_users(values)},
    }


def _sidecars(values: Mapping[str, str]) -> dict[str, dict[str, str]]:
    broker = values["CELERY_BROKER_URL"] or values["REDIS_URL"]
    redis = values["REDIS_URL"] or _redis("backup", values["REDIS_BACKUP_PASSWORD"])
    return {
        "exporter": {
            "broker_url": broker or _redis("exporter", values["REDIS_EXPORTER_PASSWORD"]),
            "database_url": _database("posthub_exporter", values["EXPORTER_DB_PASSWORD"]),
        },
        "backup": {
            "database_urls": _databases(values),
            "redis_urls": values["BACKUP_REDIS_URLS"] or f"posthub_redis={redis}",
            "servers": _servers(values),
            **{name.removeprefix("BACKUP_").lower(): values[name] for name in BACKUP_SECRETS},
        },
        # It streams, so it encrypts, and cannot decrypt.
        "backup_wal": {
            "servers": _servers(values),
            **{name.removeprefix("BACKUP_").lower(): values[name] for name in WAL_SECRETS},
        },
    }


def _monitoring(values: Mapping[str, str]) -> dict[str, dict[str, str]]:
    password = _named(values, "ALERTS_PASSWORD")
    users = web_config(values)
    # A receiver is switched on by its file.
    receivers = {
        name.lower(): text for name, text in values.items() if name.startswith("ALERTMANAGER_") and text
    }
    return {
        "prometheus": password,
        "alertmanager": {**password, **receivers, "web.yml": users},
        "alert_watch": {**password, **receivers, **_named(values, *READBACK_SECRETS), "web.yml": users},
        "postgres_exporter": _named(values, "EXPORTER_DB_PASSWORD"),
        "redis_exporter": {
            "redis_passwords.json": json.dumps({f"redis://metrics@{REDIS}": values["REDIS_METRICS_PASSWORD"]})
        },
        "log_store": _named(values, "LOGS_PASSWORD"),
        "log_gateway": _named(values, "LOGS_PASSWORD"),
    }


def _broker(values: Mapping[str, str]) -> dict[str, str]:
    return {"celery_broker_url": values["CELERY_BROKER_URL"] or _redis_app(values)}


def _redis_app(values: Mapping[str, str]) -> str:
    return values["REDIS_URL"] or _redis("app", values["REDIS_APP_PASSWORD"])


def _redis(user: str, password: str) -> str:
    return f"redis://{user}:{quote(password, safe='')}@{REDIS}/0"


def _flower(values: Mapping[str, str]) -> str:
    """Flower's own user and password, which Caddy sends."""
    return f"caddy:{values['FLOWER_PASSWORD']}"


def _own_key(values: Mapping[str, str], service: str) -> dict[str, str]:
    """A SECRET_KEY for a service that signs and decrypts nothing: the same at each start, and useless to anyone else."""
    key = hmac.digest(values["SECRET_KEY"].encode(), f"posthub: key of {service}".encode(), hashlib.sha512)
    return {"secret_key": key.hex()}


def redis_users(values: Mapping[str, str]) -> str:
    """Redis's file of users, with digests instead of passwords."""
    return "".join(
        f"user {user} on #{hashlib.sha256(values[password].encode()).hexdigest()} {rights}\n"
        for user, (password, rights) in REDIS_USERS.items()
    )


def web_config(values: Mapping[str, str]) -> str:
    """The users of Alertmanager's and the alert watch's pages, as Prometheus's programs read them."""
    return f"basic_auth_users:\n  {ALERTS}: {_digest(values, 'ALERTS_PASSWORD')}\n"


def _databases(values: Mapping[str, str]) -> str:
    """Databases to back up by name: this stack's, unless others are named or all databases of a server are discovered."""
    if values["BACKUP_DATABASE_URLS"] or values["BACKUP_DISCOVER_URL"]:
        return values["BACKUP_DATABASE_URLS"]
    return "posthub=" + _database("posthub_backup", values["BACKUP_DB_PASSWORD"])


def _servers(values: Mapping[str, str]) -> str:
    """Servers to stream; a name alone is the database of this stack."""
    given = values["BACKUP_SERVERS"]
    if not given or "=" in given:
        return given
    return f"{given}=" + _database("posthub_wal", values["WAL_DB_PASSWORD"], "postgres")


def operators(values: Mapping[str, str]) -> str:
    """Caddy's basic authentication for the user ``ops``."""
    return f"basic_auth {{\n\tops {_digest(values, 'OPS_PASSWORD')}\n}}\n"


def _digest(values: Mapping[str, str], password: str) -> str:
    """The same at each start: with a new salt, Caddy's configuration would change, and each rollout would reload it."""
    key = hmac.digest(values["SECRET_KEY"].encode(), f"posthub: salt of {password}".encode(), hashlib.sha256)
    # The last of the 22 characters has two bits only.
    salt = f"$2b$10${key.hex()[:21]}."
    return bcrypt.hashpw(values[password].encode(), salt.encode()).decode()


def _named(values: Mapping[str, str], *names: str) -> dict[str, str]:
    return {name.lower(): values[name] for name in names}


def _database(user: str, password: str, name: str = "posthub") -> str:
    return f"postgresql://{user}:{quote(password, safe='')}@{POSTGRES}/{name}"


def write(place: Place, values: Mapping[str, str]) -> None:
    """Write everything, and remove files that are no longer needed."""
    place.folder.mkdir(exist_ok=True)
    place.folder.chmod(0o700)
    for group, contents in {"values": dict(values), **files(values)}.items():
        place.make(group)
        for name, text in contents.items():
            place.write(group, name, text)
        place.remove_others(group, set(contents))
    place.remove_other_folders({"values", *OWNERS})


def hand_over(volumes: Path) -> None:
    """Let each container write to its volumes."""
    for volume, group in VOLUMES.items():
        for handle in _inside(volumes / volume):
            _give(handle, *OWNERS[group])
    for volume, group in SHARED_VOLUMES.items():
        for handle in _inside(volumes / volume):
            _share(handle, *OWNERS[group])


def _inside(folder: Path) -> Iterator[int]:
    """A descriptor of the folder and of everything in it, without links.

    The container that is still running could replace any file or folder with a link, and this is root. So
    everything is reached through the descriptor of its folder, and changed through its own.
    """
    if not folder.is_dir():
        return
    for _, _, files, inside in os.fwalk(folder):
        yield inside
        for name in files:
            try:
                handle = os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=inside)
            except FileNotFoundError:  # removed meanwhile
                continue
            try:
                if not stat.S_ISLNK(os.fstat(handle).st_mode):
                    yield handle
            finally:
                os.close(handle)


def _path(handle: int) -> Path:
    """Leads to what is open, whatever its name means by now."""
    return Path(f"/proc/self/fd/{handle}")


def _give(handle: int, user: int, group: int) -> None:
    if os.fstat(handle).st_uid != user:
        os.chown(_path(handle), user, group)


def _share(handle: int, user: int, group: int) -> None:
    """Let this user write as a member of the group. Only what belongs to root, as a new volume does, changes its owner."""
    found = os.fstat(handle)
    if found.st_uid == user:
        return
    owner = user if found.st_uid == 0 else -1
    if owner == user or found.st_gid != group:
        os.chown(_path(handle), owner, group)
    wanted = found.st_mode | (0o070 if stat.S_ISDIR(found.st_mode) else 0o060)
    if wanted != found.st_mode:
        _path(handle).chmod(stat.S_IMODE(wanted))


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
