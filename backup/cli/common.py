"""What the commands share: options, settings, confirmation."""

import logging
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, TypeVar

import click

from backup.catalogue import ids
from backup.catalogue.history import Catalogue, Entry, History
from backup.ownership import clusters, is_foreign
from backup.postgres.dsn import Address, parse
from backup.replication.merged import read
from backup.settings import BackupSettings
from backup.spans import SPANS, parse_moment
from backup.targets import PostgresTarget
from backup.wiring import Wiring, wire
from sidecar import UsageError, cli, logs
from sidecar.humanize import moment

NAME_TRIES = 3
# Number of newest backups to read first: the latest one is nearly always among these.
FEW = 3
F = TypeVar("F", bound=Callable[..., Any])


def json_option(function: F) -> F:
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON document to stdout.")(
        function
    )


def database_option(function: F) -> F:
    return click.option("--database", "-d", metavar="NAME", help="The database, if several are configured.")(
        function
    )


def as_moment(_: click.Context, __: click.Parameter, text: str | None) -> datetime | None:
    """The value of an option that is a moment; see :func:`backup.spans.parse_moment`."""
    try:
        return parse_moment(text, datetime.now(UTC)) if text is not None else None
    except ValueError as error:
        raise click.BadParameter(f"{error}; use {SPANS}, or 2026-11-28T14:00 (in UTC)") from None


def load(*, store_only: bool = False, discover: bool = True, service: bool = False) -> Wiring:
    """Read the settings, set up logging and build everything. No server is contacted, except one whose databases have to be discovered.

    Args:
        store_only: a store is enough, so that a host without a database can inspect backups.
        discover: look for databases now; otherwise the caller does.
        service: log in the format of the settings. Commands are for people: they log text.

    Raises:
        UsageError: the settings are invalid, or no database is configured.
        PreflightError: the server whose databases are to be found cannot be reached.
    """
    settings = BackupSettings.load()
    wiring = wire(settings)
    if not wiring.everything and wiring.discovery is None and not store_only:
        raise UsageError(
            "no database is configured",
            hint="set DATABASE_URL, BACKUP_DATABASE_URLS, BACKUP_DISCOVER_URL or BACKUP_REDIS_URLS",
        )
    logs.configure(
        settings.log_level,
        secrets=[*settings.secrets(), *wiring.secrets],
        form=settings.log_format if service else "text",
    )
    # The service logs itself that a job is still in progress when it is due again.
    for name, level in {
        "boto3": "WARNING",
        "botocore": "WARNING",
        "urllib3": "ERROR",
        "apscheduler": "ERROR",
    }.items():
        logging.getLogger(name).setLevel(level)
    if discover and not store_only:
        wiring.discover()
    return wiring


def find(
    wiring: Wiring,
    database: str | None,
    backup_id: str,
    *,
    verified: bool = False,
    unsigned: bool = False,
    before: datetime | None = None,
) -> Entry:
    """Find a backup by its ID, the end of its ID, or ``latest``, in one database or in all.

    Args:
        verified: ``latest`` is the newest verified one, if any is; newer ones are named in a note.
        unsigned: a backup that is not ours can be chosen by its ID.
        before: ``latest`` is the latest whose data is not newer than this.

    Raises:
        CatalogueError: the manifest of the backup is invalid.
        UsageError: the backup does not exist, or the choice is ambiguous.
    """
    wanted = [_named(wiring, database)] if database or backup_id == "latest" else None
    if backup_id == "latest" and wanted:
        return _latest(wiring, wanted[0], verified=verified, before=before)
    catalogue = read(wiring, wanted, lambda known: ids.named(backup_id, known))
    backup_id = _whole(catalogue, backup_id)
    for history in catalogue.databases.values():
        for broken in history.broken:
            if broken.id == backup_id:
                raise broken.error
        found = history.find(backup_id) or _stranger(history, backup_id, unsigned=unsigned)
        if found is not None:
            # It was named explicitly, so it need not be one of our backups.
            return replace(found, trust="unsigned") if unsigned else found
    raise _missing(backup_id)


def _latest(wiring: Wiring, database: str, *, verified: bool, before: datetime | None) -> Entry:
    history = _until(wiring, database, before, newest=FEW)
    found = history.last_verified if verified else history.latest
    if found is None:
        history = _until(wiring, database, before)
        found = (history.last_verified if verified else None) or history.latest
    if found is not None:
        _mention_later(history, found)
        return found
    if before is not None:
        raise UsageError(
            f"no backup of {history.database} has data from before {moment(before)}",
            hint="list the backups: python -m backup list",
        )
    raise _missing("latest")


def _until(wiring: Wiring, database: str, before: datetime | None, newest: int = 0) -> History:
    """The backups up to a moment: all, or only the newest, which need far fewer requests."""

    def chosen(known: list[str]) -> list[str]:
        last = ids.stamp(before) if before is not None else "~"
        return [backup_id for backup_id in known if backup_id.partition("-")[0] <= last][-newest:]

    history = read(wiring, [database], chosen).history(database)
    return history.until(before) if before is not None else history


def _whole(catalogue: Catalogue, typed: str) -> str:
    """The ID that ends in what was typed."""
    known = [
        each.id
        for history in catalogue.databases.values()
        for those in (history.backups, history.others, history.broken)
        for each in those
    ]
    found = ids.named(typed, known)
    if len(found) > 1:
        raise UsageError(f"{len(found)} backups end in {typed}", hint=f"type more of it: {', '.join(found)}")
    if not found:
        raise _missing(typed)
    return found[0]


def _missing(backup_id: str) -> UsageError:
    return UsageError(f"backup {backup_id} does not exist", hint="list the backups: python -m backup list")


def _named(wiring: Wiring, database: str | None) -> str:
    """The name of a database that is configured, or has backups in the store, such as one that was imported from a file."""
    configured = {target.name for target in wiring.everything}
    if database and database not in configured and (not configured or database in wiring.reader().named()):
        return database
    return wiring.target(database).name


def _stranger(history: History, backup_id: str, *, unsigned: bool) -> Entry | None:
    """A backup that is not ours, for a caller that explicitly names it."""
    found = next((entry for entry in history.others if entry.id == backup_id), None)
    if found is None or unsigned:
        return found
    raise UsageError(
        f"{backup_id} is {found.state}: {_WHY[found.state]}",
        hint=f"if you know where it comes from: python -m backup restore --unsigned {backup_id}",
    )


_WHY = {
    "unsigned": "it has no signature, and BACKUP_MANIFEST_KEY is set; anyone who can write to the store could have made it",
    "FORGED": "no key in BACKUP_MANIFEST_KEY has signed it; add the key that did, or someone has changed it",
    "REPLAYED": "it was deleted by a prune, and someone has put it back",
}


def _mention_later(history: History, found: Entry) -> None:
    """Report the backups that are newer than the chosen one, and why they were not chosen."""
    newer = [(each.id, f"cannot be read: {each.error.message}") for each in history.broken]
    newer += [(each.id, f"is {each.state}") for each in history.others]
    newer += [
        (each.id, "is from the future" if history.is_ahead(each) else f"is {each.label}")
        for each in history.backups
    ]
    for backup_id, why in sorted(newer):
        if backup_id > found.id:
            cli.echo(f"note: {backup_id} is newer than {found.id} and {why}", err=True)


def postgres_target(wiring: Wiring, name: str | None) -> PostgresTarget:
    """The PostgreSQL database with a name; without a name, the only one.

    Raises:
        UsageError: the name is not configured, or it is a Redis server.
    """
    chosen = [target for target in wiring.targets if isinstance(target, PostgresTarget)]
    if name is None and len(chosen) == 1:
        return chosen[0]
    if name and wiring.settings.restore_url and name not in {target.name for target in wiring.everything}:
        # A backup of a database that is not configured, such as one that was imported from a file.
        return PostgresTarget(
            name, parse(wiring.settings.restore_url.get_secret_value(), "BACKUP_RESTORE_URL")
        )
    target = wiring.target(name)
    if not isinstance(target, PostgresTarget):
        raise UsageError(f"{target.name} is a Redis server", hint="runbooks/restore-redis.sh restores Redis")
    return target


def confirm(question: str, name: str, given: str | None, otherwise: str = "nothing was changed") -> None:
    """Ask a person to type the name of the database that will be replaced; with three tries, because it may be three in the morning.

    Args:
        given: the name, typed as an option.
        otherwise: the state that remains if it is not confirmed.

    Raises:
        UsageError: another name was typed, or there is no terminal.
    """
    hint = f"--yes-i-mean {name}"
    if given is not None:
        if given != name:
            raise UsageError(f"{given!r} is not {name}; {otherwise}", hint=hint)
        return
    if not sys.stdin.isatty():
        raise UsageError(f"cannot ask for confirmation without a terminal; {otherwise}", hint=hint)
    click.echo(cli.printable(question, lines=True), err=True)
    for left in reversed(range(NAME_TRIES)):
        typed = click.prompt(f"Type {name} to continue", err=True, default="", show_default=False)
        if typed == name:
            return
        if left:
            cli.echo(f"{typed!r} is not {name}; {left} more {'tries' if left > 1 else 'try'}", err=True)
    raise UsageError(f"{typed!r} is not {name}; {otherwise}", hint=hint)


def check_origin(wiring: Wiring, entry: Entry, production: Address, given: str | None, *also: str) -> None:
    """Warn if the data is from another server, and ask if this server also has backups that it could be confused with.

    Args:
        also: names of others in the store that may have backups of this server.

    Raises:
        UsageError: the answer is no, or there is no terminal to ask on.
    """
    from backup.postgres import inventory  # only restores need the server
    from backup.postgres.databases import databases
    from backup.postgres.session import session

    with databases(production) as server, session(server.maintenance) as connection:
        identifier = inventory.system_identifier(connection)
    if not is_foreign(entry, {identifier}):
        return
    names = dict.fromkeys((entry.manifest.database, *also))
    catalogue = read(wiring, names)
    histories = [catalogue.history(name) for name in names]
    known = frozenset[str]().union(*(clusters(history, identifier) for history in histories))
    if not is_foreign(entry, known):
        return
    whose = (
        f"{entry.id} contains data from another server (cluster {entry.manifest.server.system_identifier})"
    )
    cli.echo(f"note: {whose}", err=True)
    if any(not is_foreign(each, known) for history in histories for each in history.backups):
        confirm("This server also has backups.", production.database, given)


def confirm_name(name: str, given: str | None) -> None:
    """Reject an invalid name, even if nothing is left to do."""
    if given is not None:
        confirm("", name, given)


def agreed(question: str) -> bool:
    """Ask a yes-or-no question if there is a terminal to answer it."""
    return sys.stdin.isatty() and click.confirm(question, err=True, default=False)


def note_anomalies(entry: Entry) -> None:
    """Report what an anomalous backup lacks or has: a proof compares it only with its own dump."""
    for anomaly in entry.manifest.anomalies:
        cli.echo(f"note: {entry.id} is unlike the backups before it: {anomaly}", err=True)


def print_step(text: str) -> None:
    """Print a line of the timeline, for a post-mortem."""
    cli.echo(f"{datetime.now(UTC):%H:%M:%S}  {text}", err=True)
