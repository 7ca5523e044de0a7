"""What the commands have in common: options, settings, and how values are shown."""

import logging
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

import click

from backup.catalogue.reader import Entry, History
from backup.replication.merged import read
from backup.settings import BackupSettings
from backup.targets import PostgresTarget
from backup.wiring import Wiring, wire
from sidecar import UsageError, logs

F = TypeVar("F", bound=Callable[..., Any])


def json_option(function: F) -> F:
    return click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")(function)


def database_option(function: F) -> F:
    return click.option("--database", "-d", metavar="NAME", help="Which database, where there are several.")(
        function
    )


def load(*, only_looks: bool = False) -> Wiring:
    """Settings from the environment, logs set up, everything wired; nothing contacted yet.

    Args:
        only_looks: the store is enough; a host that has nothing to back up may look into it too.

    Raises:
        UsageError: settings are wrong, or name nothing to back up.
    """
    settings = BackupSettings.load()
    wiring = wire(settings)
    if not wiring.targets and not only_looks:
        raise UsageError(
            "there is nothing to back up", hint="set DATABASE_URL, BACKUP_DATABASE_URLS or BACKUP_REDIS_URLS"
        )
    logs.configure(settings.log_level, secrets=[*settings.secrets(), *wiring.secrets])
    # What APScheduler says about work that is still on when it is due again, the service says in its own words.
    for name, level in {
        "boto3": "WARNING",
        "botocore": "WARNING",
        "urllib3": "ERROR",
        "apscheduler": "ERROR",
    }.items():
        logging.getLogger(name).setLevel(level)
    return wiring


def find(wiring: Wiring, database: str | None, backup_id: str, *, strict: bool = False) -> Entry:
    """A backup by its id or ``latest``, of a database or of whichever has it.

    Args:
        strict: refuse ``latest`` while there is a later one that cannot be read; otherwise it is told.

    Raises:
        CatalogueError: its manifest is damaged.
        UsageError: there is none, or it is not clear which is meant.
    """
    wanted = [_named(wiring, database)] if database or backup_id == "latest" else None
    catalogue = read(wiring, wanted)
    for history in catalogue.databases.values():
        for broken in history.broken:
            if broken.id == backup_id:
                raise broken.error
        found = history.latest if backup_id == "latest" else history.find(backup_id)
        if found is not None:
            if backup_id == "latest":
                _tell_of_later(history, found, strict=strict)
            return found
    raise UsageError(f"there is no backup {backup_id}", hint="list what is there: python -m backup list")


def _named(wiring: Wiring, database: str | None) -> str:
    return database if database and not wiring.targets else wiring.target(database).name


def _tell_of_later(history: History, found: Entry, *, strict: bool) -> None:
    for broken in history.broken:
        if broken.id <= found.id:
            continue
        text = f"{broken.id} is later than {found.id}, and cannot be read: {broken.error.message}"
        if strict:
            raise UsageError(text, hint=f"say which one you mean: {found.id}")
        click.echo(f"note: {text}", err=True)


def postgres_target(wiring: Wiring, name: str | None) -> PostgresTarget:
    """The PostgreSQL database with a name; without one, the only one there is.

    Raises:
        UsageError: there is none of that name, or it is a Redis server.
    """
    chosen = [target for target in wiring.targets if isinstance(target, PostgresTarget)]
    if name is None and len(chosen) == 1:
        return chosen[0]
    target = wiring.target(name)
    if not isinstance(target, PostgresTarget):
        raise UsageError(f"{target.name} is a Redis server", hint="runbooks/restore-redis.sh restores Redis")
    return target


def confirm(question: str, name: str, given: str | None) -> None:
    """Have a person type the name of what is about to be replaced.

    Args:
        given: the name, typed as an option.

    Raises:
        UsageError: it is another name, or there is nobody to ask.
    """
    if given is None:
        if not sys.stdin.isatty():
            raise UsageError(
                "nobody is here to confirm it, and nothing was done", hint=f"say it with --yes-i-mean {name}"
            )
        click.echo(question, err=True)
        given = click.prompt(f"Type {name} to go on", err=True, default="", show_default=False)
    if given != name:
        raise UsageError(f"{given!r} is not {name}; nothing was done", hint=f"--yes-i-mean {name}")


def tell_step(text: str) -> None:
    """A line of the timeline, for a post-mortem."""
    click.echo(f"{datetime.now(UTC):%H:%M:%S}  {text}", err=True)
