"""Dumps a PostgreSQL database."""

from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import dataclass

from backup.catalogue import layout
from backup.engine import DumpContext, DumpResult, Lock, PreflightResult
from backup.pipeline import transfer
from backup.postgres import dump
from backup.postgres.dsn import Address
from backup.postgres.lock import advisory_lock
from backup.postgres.preflight import preflight
from backup.postgres.snapshot import Contents, snapshot
from backup.programs import Programs

LOOK_SECONDS = 1.0


@dataclass(frozen=True)
class PostgresEngine:
    """See :class:`backup.engine.Engine`."""

    address: Address
    programs: Programs

    def preflight(self) -> PreflightResult:
        checked = preflight(self.address, self.programs)
        return PreflightResult(
            client=checked.client,
            size=checked.size,
            system_identifier=checked.server.system_identifier,
            clock=checked.clock,
        )

    def lock(self) -> AbstractContextManager[Lock]:
        return advisory_lock(self.address)

    def dump(self, context: DumpContext) -> DumpResult:
        """Dump the roles, then dump one snapshot while its rows are counted."""
        address, programs = self.address, self.programs
        with context.timings.measure("globals"), dump.globals_sql(address, programs, context.check) as source:
            roles = transfer(
                source, context.store, context.folder, layout.GLOBALS, role="globals", packing=context.packing
            )
        with snapshot(address) as moment:
            with (
                context.timings.measure("dump"),
                dump.archive(address, programs, moment.name, context.check) as source,
            ):
                archive = transfer(
                    source, context.store, context.folder, layout.ARCHIVE,
                    role="archive", packing=context.packing, progress=context.progress,
                )  # fmt: skip
            with context.timings.measure("count"):
                contents = _awaited(moment.contents, context.check)
        return DumpResult(
            taken=moment.taken,
            server=moment.server,
            objects=(archive, roles),
            facts={
                "tables": contents.tables,
                "sequences": contents.sequences,
                "extensions": contents.extensions,
                "roles": contents.roles,
            },
        )


def _awaited(contents: Future[Contents], check: Callable[[], None]) -> Contents:
    """Wait for the counts, unless the run is stopped."""
    while True:
        check()
        try:
            return contents.result(timeout=LOOK_SECONDS)
        except TimeoutError:
            if contents.done():
                raise
