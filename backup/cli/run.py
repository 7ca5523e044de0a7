"""``python -m backup run``."""

import logging
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from backup.cancellation import StoppedError
from backup.catalogue import layout
from backup.catalogue.manifest import Manifest, content
from backup.catalogue.records import Report
from backup.cli.common import database_option, find, json_option, load
from backup.progress import Progress, silent
from backup.run import run as run_backup
from backup.targets import ServerTarget, Target
from backup.wiring import Wiring
from sidecar import OpsError, UsageError, cli
from sidecar.humanize import duration, size

if TYPE_CHECKING:
    from backup.heartbeat import Pings
    from backup.notify import Notifier

log = logging.getLogger(__name__)

Failure = tuple[str, OpsError]


@click.command()
@click.option("--verify", "and_verify", is_flag=True, help="Verify the backups once all are complete.")
@click.option(
    "--adopt",
    is_flag=True,
    help="Continue the backups of another server, which this one replaces because it was rebuilt or moved.",
)
@database_option
@json_option
def run(and_verify: bool, adopt: bool, database: str | None, as_json: bool) -> None:
    """Take a backup now, of one database or of all.

    With --verify this is a complete cron job: the dead man's switch is called, and the exit code is 1 unless every
    backup is verified.

    \b
    Examples:
      python -m backup run --json
      python -m backup run --verify
    """
    wiring = load()
    targets = (wiring.target(database),) if database else wiring.everything
    pings = _pings(wiring) if and_verify else None
    notifier = _notifier(wiring)
    if pings is not None:
        pings.started()
    made, failures = _run_all(wiring, targets, pings, quiet=as_json, adopt=adopt)
    if pings is not None and not failures:
        pings.proven()
    _empty_spool(wiring)
    if notifier is not None:
        from backup.replication.merged import Catalogues

        # If the store does not answer, the failure itself says so.
        catalogue = Catalogues(wiring).read([target.name for target in targets])
        for target in targets:
            notifier.send_changes(catalogue.history(target.name))
    facts = [{**facts_of(manifest), "store": _place(wiring, manifest)} for manifest in made]
    if as_json and facts:
        cli.print_json(facts[0] if len(targets) == 1 else facts)
    _raise(failures, len(targets))


def facts_of(manifest: Manifest) -> dict[str, Any]:
    """The facts of a backup, for --json."""
    return {
        "id": manifest.id,
        "database": manifest.database,
        "kind": manifest.kind,
        "taken": manifest.taken,
        "raw_bytes": manifest.raw_bytes,
        "stored_bytes": manifest.stored_bytes,
        "seconds": round(manifest.seconds, 3),
        "bytes_per_second": round(manifest.raw_bytes / manifest.seconds) if manifest.seconds else None,
        "rows": manifest.rows,
        "tables": len(manifest.tables),
        "encrypted": manifest.encrypted,
        "anomalies": manifest.anomalies,
        "stages": manifest.stages,
    }


def _run_all(
    wiring: Wiring, targets: Iterable[Target], pings: "Pings | None", *, quiet: bool, adopt: bool
) -> tuple[list[Manifest], list[Failure]]:
    """Back up one database after the other; then verify the backups if the dead man's switch is used.

    All backups come first, so that they are close together. A failure does not stop the others.
    """
    failures = list[Failure]()
    taken = list[tuple[Target, Manifest]]()
    for target in targets:
        with _recorded(target, failures, pings):
            with _progress(target.name) as (progress, expect):
                manifest = run_backup(wiring, target, progress, adopt=adopt, expect=expect)
            taken.append((target, manifest))
            if not quiet:
                cli.echo(_sentence(manifest))
    if pings is None:
        return [manifest for _, manifest in taken], failures
    proven = set[str]()
    with wiring.round.open():
        # A base backup is compared with the dumps that came after it.
        for target, manifest in sorted(taken, key=lambda each: isinstance(each[0], ServerTarget)):
            with _recorded(target, failures, pings):
                report = _proof(wiring, manifest)
                proven.add(manifest.id)
                if not quiet:
                    cli.echo(
                        f"{manifest.id}  {manifest.database}: verified, in {duration(report.verify_seconds)}"
                    )
    return [manifest for _, manifest in taken if manifest.id in proven], failures


@contextmanager
def _recorded(target: Target, failures: list[Failure], pings: "Pings | None") -> Iterator[None]:
    """Note the failure of one database; the others continue."""
    try:
        yield
    except StoppedError:
        raise
    except OpsError as error:
        failures.append((target.name, error))
        if pings is not None:
            pings.failed(f"{target.name}: {error.message}")


def _pings(wiring: Wiring) -> "Pings":
    from backup.heartbeat import Pings  # the HTTP client is only needed here

    return Pings(wiring.settings)


def _notifier(wiring: Wiring) -> "Notifier | None":
    if not wiring.settings.notify_addresses:
        return None
    from backup.notify import notifier_for  # not needed without an address

    return notifier_for(wiring)


def _proof(wiring: Wiring, manifest: Manifest) -> Report:
    from backup.verify import verify  # not needed without a verification

    report = verify(wiring, find(wiring, manifest.database, manifest.id))
    if report.ok:
        return report
    problem = (
        f"failed its verification: {report.differences[0]}"
        if report.differences
        else f"could not be verified here: {'; '.join(report.unprovable)}"
    )
    raise OpsError(f"{manifest.id} {problem}", hint=f"python -m backup show {manifest.id}")


def _empty_spool(wiring: Wiring) -> None:
    """Move spooled backups to the store. Without the service, only a one-shot run does so."""
    if wiring.spool is None:
        return
    from backup.replication.spool import forward

    try:
        forward(wiring)
    except OpsError as error:
        log.warning("the spool was not moved to the store: %s", error.message)


def _place(wiring: Wiring, manifest: Manifest) -> str:
    """The store of a new backup. A backup in the spool waits there for the main store."""
    key = layout.manifest(manifest.database, manifest.id)
    if wiring.spool is None or wiring.spool.head(key) is None:
        return wiring.store.name
    cli.echo(f"{manifest.id} is only in the spool: the store does not answer", err=True)
    return wiring.spool.name


def _raise(failures: list[Failure], tried: int) -> None:
    if not failures:
        return
    if tried == 1:
        raise failures[0][1]
    kind = UsageError if all(error.exit_code == UsageError.exit_code for _, error in failures) else OpsError
    messages = "; ".join(f"{name}: {error.message}" for name, error in failures)
    raise kind(f"{len(failures)} of {tried} backups failed: {messages}", hint=failures[0][1].hint)


def content_of(manifest: Manifest) -> str:
    """What was counted in it."""
    if manifest.kind == "server":
        return "a base backup"
    return content(manifest.kind, len(manifest.tables), manifest.rows)


def _sentence(manifest: Manifest) -> str:
    rate = manifest.raw_bytes / max(manifest.seconds, 0.001)
    secrecy = "encrypted" if manifest.encrypted else "NOT encrypted"
    return (
        f"{manifest.id}  {manifest.database}: {content_of(manifest)}, "
        f"{size(manifest.raw_bytes)} → {size(manifest.stored_bytes)} in {duration(manifest.seconds)} "
        f"({size(rate)}/s), {secrecy}"
    )


@contextmanager
def _progress(name: str) -> Iterator[tuple[Progress, Progress]]:
    """The functions that receive the bytes as they pass, and the expected number."""
    if not sys.stderr.isatty():
        yield silent, silent
        return
    from backup.cli import bars  # a job of cron does not load it

    with cli.progress(*bars.transfer(with_speed=True)) as display:
        task = display.add_task(name, total=None)
        yield (lambda count: display.advance(task, count)), (lambda total: display.update(task, total=total))
