"""Swaps two databases, or swaps them back. Both renames are in one transaction, so no failure can separate them.

The rename takes a lock on the database. New connections wait for it, and are refused afterwards. Meanwhile, a second
connection closes the existing ones. So even a pool that reconnects at once cannot stop the swap, and there is no setting to
change before it and to restore afterwards.
"""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime

import psycopg

from backup.errors import DumpError, PreflightError
from backup.postgres.databases import Databases, Mark, databases
from backup.postgres.dsn import Address
from backup.postgres.session import session, text_of
from backup.progress import Reporter
from backup.restore import names
from sidecar import OpsError, UsageError
from sidecar.logs import fields

log = logging.getLogger(__name__)

DISCONNECT_SECONDS = 0.05


@dataclass(frozen=True)
class Swap:
    """The renames of a swap.

    Attributes:
        incoming: the database that gets production's name.
        kept: the new name of the current production database; empty if there is none.
        done: an earlier run has already made the swap.
    """

    production: str
    incoming: str
    kept: str
    mark: Mark
    done: bool = False


def plan_promotion(server: Databases, database: str, restored: str | None, now: datetime) -> Swap:
    """Plan a promotion.

    Args:
        database: the database in production, by its name in the store.
        restored: the database to promote; by default the newest one that is restored and verified.

    Raises:
        UsageError: there is no such database, it is not verified, or it contains another database's data.
    """
    production, marks = server.address.database, server.marks()
    restored = restored or _newest(marks, database)
    current = marks.get(production)
    if restored is None or (restored not in marks and current is not None and current.origin == restored):
        if current is not None and current.state == "promoted":
            return Swap(production, current.origin, current.partner, current, done=True)
        raise UsageError(
            "there is no restored database to promote", hint="restore one: python -m backup restore"
        )
    mark = _promotable(server, database, marks.get(restored), restored)
    kept = names.before(production, now) if server.exists(production) else ""
    return _possible(server, Swap(production, restored, kept, mark))


def plan_rollback(server: Databases, now: datetime) -> Swap:
    """Plan a rollback.

    Raises:
        UsageError: production was not promoted, or the database before it no longer exists.
    """
    production, marks = server.address.database, server.marks()
    mark = marks.get(production)
    if mark is not None and mark.state == "returned":
        return Swap(production, production, mark.partner, mark, done=True)
    if mark is None or mark.state != "promoted":
        raise UsageError(f"{production} was not promoted", hint="there is nothing to roll back")
    if not mark.partner or not server.exists(mark.partner):
        raise UsageError(
            f"the database that {production} replaced no longer exists",
            hint="restore a backup from before: python -m backup list",
        )
    return _possible(server, Swap(production, mark.partner, names.undone(production, now), mark))


def promote(
    production: Address, database: str, restored: str | None, now: datetime, reporter: Reporter | None = None
) -> Swap:
    """Swap a restored database into production; the old one is kept. See :func:`plan_promotion`.

    Raises:
        OpsError: it failed, and nothing was changed.
    """
    reporter = reporter or Reporter()
    with databases(production) as server, server.lock(production.database):
        swap = plan_promotion(server, database, restored, now)
        if not swap.done:
            fresh = {"moment": now, "partner": swap.kept, "origin": swap.incoming}
            _swap(
                server,
                swap,
                reporter,
                incoming=swap.mark.model_copy(update={**fresh, "state": "promoted"}),
                outgoing=Mark(state="before", moment=now, database=database, partner=swap.production),
            )
    return swap


def rollback(production: Address, now: datetime, reporter: Reporter | None = None) -> Swap:
    """Swap the database that the last promotion replaced back into production. The promoted one is kept.

    Raises:
        OpsError: it failed, and nothing was changed.
    """
    reporter = reporter or Reporter()
    with databases(production) as server, server.lock(production.database):
        swap = plan_rollback(server, now)
        if not swap.done:
            _swap(
                server,
                swap,
                reporter,
                incoming=Mark(state="returned", moment=now, database=swap.mark.database, partner=swap.kept),
                outgoing=swap.mark.model_copy(
                    update={"state": "undone", "moment": now, "partner": swap.production, "origin": ""}
                ),
            )
    return swap


def _newest(marks: dict[str, Mark], database: str) -> str | None:
    waiting = [
        (mark.moment, name)
        for name, mark in marks.items()
        if mark.state == "restored" and mark.database == database and not mark.differences
    ]
    return max(waiting)[1] if waiting else None


def _promotable(server: Databases, database: str, mark: Mark | None, name: str) -> Mark:
    if not server.exists(name):
        raise UsageError(f"{name} does not exist on the server", hint="restore one: python -m backup restore")
    if mark is None or mark.state not in ("restored", "undone", "before"):
        raise UsageError(
            f"{name} was not created by a restore" if mark is None else f"{name} is {mark.state}",
            hint="restore into a new database: python -m backup restore",
        )
    if mark.database != database:
        raise UsageError(
            f"{name} contains {mark.database}, not {database}; nothing was changed",
            hint=f"use --database {mark.database}, or restore {database}",
        )
    if mark.differences:
        raise UsageError(
            f"{name} is not verified: it has {mark.differences} differences from its backup",
            hint="read the output of restore; restore an older backup: python -m backup list",
        )
    return mark


def _swap(server: Databases, swap: Swap, reporter: Reporter, *, incoming: Mark, outgoing: Mark) -> None:
    reporter.step(f"check {swap.production} and {swap.incoming}")
    involved = _involved(swap)
    for name in involved:
        if clients := server.connected(name):
            reporter.step(f"connections to {name} will be closed: {', '.join(clients)}")
    reporter.step(f"swap: {swap.production} → {swap.kept or 'nothing'}, {swap.incoming} → {swap.production}")
    with _disconnecting(server.address, involved), _explained(server, involved), server.transaction():
        if swap.kept:
            server.rename(swap.production, swap.kept)
            server.mark(swap.kept, outgoing)
        server.rename(swap.incoming, swap.production)
        server.mark(swap.production, incoming)
    reporter.step(f"check that {swap.production} answers")
    _check_answers(server.address)
    log.info("swapped %s", fields(production=swap.production, incoming=swap.incoming, kept=swap.kept))


def _involved(swap: Swap) -> list[str]:
    return [name for name in (swap.production if swap.kept else "", swap.incoming) if name]


def _possible(server: Databases, swap: Swap) -> Swap:
    """The swap, after the checks that are possible before it.

    Raises:
        PreflightError: one of them failed; nothing was changed.
    """
    if not server.accepts_connections(swap.incoming):
        raise PreflightError(
            f"{swap.incoming} accepts no connections, and neither would production; nothing was changed",
            hint=f'ALTER DATABASE "{swap.incoming}" ALLOW_CONNECTIONS true',
        )
    for name in _involved(swap):
        if count := server.prepared(name):
            raise PreflightError(
                f"{name} has {count} prepared transactions and cannot be renamed",
                hint="see pg_prepared_xacts there; COMMIT PREPARED or ROLLBACK PREPARED each",
            )
    return swap


def _check_answers(production: Address) -> None:
    """Connect as any client would. It is too late to undo the swap: the application may be writing already."""
    try:
        with session(production, application="posthub-restore") as connection:
            connection.execute("SELECT 1")
    except OpsError as error:
        raise DumpError(
            f"the databases WERE swapped, but {production.database} does not answer: {error.message}",
            hint=f"{error.hint}; python -m backup rollback swaps back",
        ) from None


@contextmanager
def _explained(server: Databases, involved: list[str]) -> Iterator[None]:
    """Turn the server's refusal, which changes nothing, into an error that names the remaining connections."""
    try:
        yield
    except psycopg.Error as error:
        if server.lost:
            raise DumpError(
                f"the connection was lost, and it is not known whether the databases were swapped: {text_of(error)}",
                hint="run it again: it checks whether they were, and completes the swap if not",
            ) from None
        connected = [f"{name}: {', '.join(users)}" for name in involved if (users := server.connected(name))]
        still = f"; still connected to {'; '.join(connected)}" if connected else ""
        raise DumpError(
            f"the databases were not renamed; nothing was changed: {error.diag.message_primary or error}{still}",
            hint="stop the connected programs, then run it again",
        ) from None


@contextmanager
def _disconnecting(address: Address, involved: list[str]) -> Iterator[None]:
    """Repeatedly closes the connections to databases while the block runs."""
    finished = threading.Event()
    thread = threading.Thread(
        target=_disconnect, args=(address, involved, finished), name="disconnect", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        finished.set()
        thread.join()


def _disconnect(address: Address, involved: list[str], finished: threading.Event) -> None:
    # The rename itself reports connections that cannot be closed.
    with suppress(OpsError), databases(address) as server:
        while not finished.wait(DISCONNECT_SECONDS):
            for name in involved:
                with suppress(psycopg.Error):
                    server.disconnect(name)
