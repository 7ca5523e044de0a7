"""Dumps a PostgreSQL database."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass

from backup.catalogue import layout
from backup.engine import DumpContext, DumpResult, Lock, PreflightResult
from backup.errors import DumpError
from backup.pipeline import Packed, packed, transfer
from backup.postgres import dump
from backup.postgres.dsn import Address
from backup.postgres.exclusion import NOTHING, Exclusion
from backup.postgres.lock import advisory_lock
from backup.postgres.preflight import preflight
from backup.postgres.snapshot import Contents, Judge, Snapshot, snapshot
from backup.programs import Programs

POLL_SECONDS = 1.0


@dataclass(frozen=True)
class PostgresEngine:
    """See :class:`backup.engine.Engine`.

    Attributes:
        judge: see :func:`backup.postgres.snapshot.snapshot`.
        verified_here: see :func:`backup.postgres.preflight.preflight`.
    """

    address: Address
    programs: Programs
    exclusion: Exclusion = NOTHING
    judge: Judge | None = None
    verified_here: bool = True

    def preflight(self) -> PreflightResult:
        checked = preflight(self.address, self.programs, self.exclusion, verified_here=self.verified_here)
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
        with ExitStack() as upload:
            with snapshot(address, self.exclusion, self.judge) as moment:
                with context.timings.measure("dump"), _first_cause(moment.contents):
                    dumped = upload.enter_context(self._dumped(moment, context))
                with context.timings.measure("count"):
                    contents = _awaited(moment.contents, context.check)
                    moment.confirm()
            # Without the snapshot and its locks, which delay vacuum and migrations.
            with context.timings.measure("dump"):
                archive = dumped.finish()
        return DumpResult(
            taken=moment.taken,
            server=moment.server,
            objects=(archive, roles),
            facts={
                "tables": contents.tables,
                "sequences": contents.sequences,
                "extensions": contents.extensions,
                "expressions": contents.expressions,
                "provided": contents.provided,
                "roles": contents.roles,
                "notes": contents.notes,
                "place": moment.place,
                "excluded_tables": tuple(".".join(name) for name in moment.excluded.tables.values()),
                "excluded_rows": tuple(".".join(name) for name in moment.excluded.rows.values()),
            },
        )

    @contextmanager
    def _dumped(self, moment: Snapshot, context: DumpContext) -> Iterator[Packed]:
        """The dump, which has ended in the block."""
        encoding = moment.server.encoding
        options = [*moment.excluded.arguments(), *([dump.THROUGH_ROOT] if moment.rehashed else [])]
        with ExitStack() as upload:
            with dump.archive(
                self.address, self.programs, moment.name, encoding, context.check, options
            ) as source:
                made = upload.enter_context(
                    packed(
                        source,
                        context.store,
                        context.folder,
                        layout.ARCHIVE,
                        role="archive",
                        packing=context.packing,
                        progress=context.progress,
                    )
                )
            yield made


@contextmanager
def _first_cause(contents: Future[Contents]) -> Iterator[None]:
    """If a dump failed because its snapshot is gone, report why the other session lost it."""
    try:
        yield
    except DumpError:
        if contents.done() and (cause := contents.exception()) is not None:
            raise cause from None
        raise


def _awaited(contents: Future[Contents], check: Callable[[], None]) -> Contents:
    """Wait for the counts, unless the run is stopped."""
    while True:
        check()
        try:
            return contents.result(timeout=POLL_SECONDS)
        except TimeoutError:
            if contents.done():
                raise
