"""Makes the backup of a PostgreSQL database."""

from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import dataclass

from backup import layout
from backup.making import Lock, Made, Ready, Work
from backup.pipeline import transfer
from backup.postgres import dump
from backup.postgres.lock import advisory_lock
from backup.postgres.preflight import preflight
from backup.postgres.snapshot import Contents, snapshot
from backup.programs import Programs
from backup.targets import PostgresTarget

LOOK_SECONDS = 1.0


@dataclass(frozen=True)
class PostgresMaker:
    """See :class:`backup.making.Maker`."""

    target: PostgresTarget
    programs: Programs

    def preflight(self) -> Ready:
        checked = preflight(self.target.address, self.programs)
        return Ready(client=checked.client, size=checked.size)

    def lock(self) -> AbstractContextManager[Lock]:
        return advisory_lock(self.target.address)

    def make(self, work: Work) -> Made:
        """Roles first, then one snapshot: dumped, and counted at the same time."""
        address, programs = self.target.address, self.programs
        with work.stages.measure("globals"), dump.globals_sql(address, programs, work.check) as source:
            roles = transfer(
                source, work.store, work.folder, layout.GLOBALS, role="globals", packing=work.packing
            )
        with snapshot(address) as moment:
            with (
                work.stages.measure("dump"),
                dump.archive(address, programs, moment.name, work.check) as source,
            ):
                archive = transfer(
                    source, work.store, work.folder, layout.ARCHIVE,
                    role="archive", packing=work.packing, progress=work.progress,
                )  # fmt: skip
            with work.stages.measure("count"):
                contents = _awaited(moment.contents, work.check)
        return Made(
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
    """The counts, unless the run is stopped while they are still going on."""
    while True:
        check()
        try:
            return contents.result(timeout=LOOK_SECONDS)
        except TimeoutError:
            if contents.done():
                raise
