"""Practises the whole restore in a throwaway server, with promotion and rollback, timed."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

import psycopg

from backup.catalogue.history import Entry
from backup.catalogue.records import Difference
from backup.errors import VerificationError
from backup.load.download import check_space
from backup.load.throwaway import cluster, server_options, sweep_folders
from backup.postgres.databases import databases
from backup.postgres.dsn import Address
from backup.postgres.session import session
from backup.progress import Reporter, Timings
from backup.restore.database import Restored, restore
from backup.restore.swap import promote, rollback
from backup.verify.verifier import SPACE_FACTOR
from backup.wiring import Wiring
from sidecar import UsageError

STEPS = (
    "start a throwaway server with a database that stands in for production",
    "restore the backup into a new database there and verify it",
    "promote it",
    "check that the restored rows are in production",
    "roll back",
    "check that the old database is in production again",
)


@dataclass(frozen=True)
class DrillResult:
    """The result of a drill.

    Attributes:
        rto: seconds from the first byte to the restored database in production.
        rpo: age of the backup's data at the start of the drill, in seconds.
    """

    restored: Restored
    rto: float
    rpo: float
    stages: dict[str, float] = field(default_factory=dict)
    differences: tuple[Difference, ...] = ()

    @property
    def ok(self) -> bool:
        return not self.differences


def drill(wiring: Wiring, entry: Entry, reporter: Reporter | None = None) -> DrillResult:
    """Practise a restore. Production is not touched, and nothing is left behind.

    Raises:
        UsageError: it is not a backup of PostgreSQL.
        OpsError: the drill could not be carried out.
    """
    reporter = reporter or Reporter()
    manifest, parent = entry.manifest, wiring.settings.work_dir
    if manifest.kind != "postgres":
        raise UsageError(f"{entry.id} is a backup of Redis", hint="practise with: python -m backup verify")
    sweep_folders(parent)
    began = wiring.clock()
    with wiring.journal(manifest.database).attempt("drill", backup=entry.id) as attempt:
        reporter.step(STEPS[0])
        with cluster(
            wiring.programs,
            superuser=manifest.server.superuser,
            parent=parent,
            options=server_options(wiring.settings.verify_options),
            check=wiring.stop.check,
            encoding=manifest.server.roles_encoding,
        ) as scratch:
            # Unlike in a restore, the server's data is in our own folder.
            check_space(scratch.folder, int(manifest.raw_bytes * SPACE_FACTOR), "the drill")
            production = scratch.address.named("production")
            result = _practise(wiring, entry, production, reporter)
        rpo = max(0.0, (began - manifest.taken).total_seconds())
        attempt.set(measures={"rto": round(result.rto, 3), "rpo": round(rpo, 3)})
        if not result.ok:
            attempt.fail(
                VerificationError(f"the drill failed: {result.differences[0]}", hint="python -m backup drill")
            )
    return DrillResult(result.restored, result.rto, rpo, result.stages, result.differences)


def _practise(wiring: Wiring, entry: Entry, production: Address, reporter: Reporter) -> DrillResult:
    stages, token = Timings(), secrets.token_hex(8)
    with databases(production) as server:
        server.create(production.database, entry.manifest.server)
    with session(production) as connection:
        connection.execute("CREATE TABLE public.old_production AS SELECT %s::text AS token", [token])
    reporter.step(STEPS[1])
    with stages.measure("restore"):
        restored = restore(wiring, entry, production, "drill", reporter)
    if not restored.ok:
        return DrillResult(restored, 0.0, 0.0, stages.seconds, restored.differences)
    reporter.step(STEPS[2])
    with stages.measure("promote"):
        promote(production, entry.manifest.database, "drill", wiring.clock())
    rto = stages.seconds["restore"] + stages.seconds["promote"]
    reporter.step(STEPS[3])
    differences = [*_expect(production, "after the promotion", lambda: _token(production) is None)]
    reporter.step(STEPS[4])
    with stages.measure("rollback"):
        rollback(production, wiring.clock())
    reporter.step(STEPS[5])
    differences += _expect(production, "after the rollback", lambda: _token(production) == token)
    return DrillResult(restored, rto, 0.0, stages.seconds, tuple(differences))


def _expect(production: Address, when: str, passed: Callable[[], bool]) -> list[Difference]:
    if passed():
        return []
    return [
        Difference(
            kind="drill", object=production.database, expected=f"the right database {when}", found="the other"
        )
    ]


def _token(production: Address) -> str | None:
    """The token in the stand-in for the old database; None in any other database."""
    with session(production) as connection:
        try:
            row = connection.execute("SELECT token FROM public.old_production").fetchone()
        except psycopg.errors.UndefinedTable:
            return None
    return str(row[0]) if row else None
