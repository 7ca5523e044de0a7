"""``python -m backup hold`` and ``python -m backup release``."""

import socket
from contextlib import suppress

import click

from backup.catalogue import layout
from backup.catalogue.document import encode
from backup.catalogue.hold import Hold
from backup.catalogue.renewal import forget_others, renew
from backup.cli.common import database_option, find, json_option, load
from backup.errors import StoreError
from sidecar import UsageError, cli

MAX_REASON = 500


@click.command()
@click.argument("backup_id", metavar="ID")
@click.option("--reason", default="", help="Why it is kept, for people who ask later.")
@database_option
@json_option
def hold(backup_id: str, reason: str, database: str | None, as_json: bool) -> None:
    """Keep a backup until it is released, whatever the retention rules say.

    \b
    Example:
      python -m backup hold ab12cd --reason "before the migration to 2.0"
    """
    _write(backup_id, database, held=True, reason=reason, as_json=as_json)


@click.command()
@click.argument("backup_id", metavar="ID")
@database_option
@json_option
def release(backup_id: str, database: str | None, as_json: bool) -> None:
    """End the hold on a backup, so that the retention rules apply again.

    \b
    Example:
      python -m backup release ab12cd
    """
    _write(backup_id, database, held=False, reason="", as_json=as_json)


def _write(backup_id: str, database: str | None, *, held: bool, reason: str, as_json: bool) -> None:
    wiring = load(store_only=True)
    entry = find(wiring, database, backup_id)
    if not held and not entry.on_hold:
        raise UsageError(
            f"{entry.id} is not on hold; nothing was changed", hint=f"python -m backup show {entry.id}"
        )
    document = Hold(
        backup=entry.id,
        database=entry.manifest.database,
        held=held,
        moment=wiring.clock(),
        host=socket.gethostname(),
        reason=reason[:MAX_REASON],
    )
    key = layout.hold(entry.manifest.database, entry.id)
    store, data = wiring.store_named(entry.store), encode(document, wiring.keys)
    present = renew(store, key, data)
    with suppress(StoreError):
        forget_others(store, key, present)
    if as_json:
        cli.print_json({"id": entry.id, "database": entry.manifest.database, "held": held})
    elif held:
        cli.echo(f"{entry.id} is on hold; to release it: python -m backup release {entry.id}")
    else:
        cli.echo(f"{entry.id} is no longer on hold; the retention rules apply to it")
