"""What is stored next to the backups: verification reports and attempts."""

from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field

from backup.catalogue.document import Count, Document, Moment, Part, Seconds

Kind = Literal["backup", "verification", "prune", "copy", "restore", "drill"]
Outcome = Literal["running", "success", "failure", "skipped"]
"""``skipped``: another run was working on the database, so nothing was attempted."""


class Difference(Part):
    """One difference that a verification found."""

    kind: str = Field(description="what differs: object, rows, data, schema, restore, …")
    object: str = Field(description="its name")
    expected: str
    found: str

    def __str__(self) -> str:
        return f"{self.kind} {self.object}: expected {self.expected}, found {self.found}"


class Report(Document):
    """The result of one verification, stored next to the backup."""

    kind_of_document: ClassVar[str] = "report"

    backup: str
    database: str
    manifest: str = Field(default="", description="digest of the manifest that was verified")
    started: Moment
    finished: Moment
    ok: bool
    differences: tuple[Difference, ...] = ()
    notes: tuple[str, ...] = ()
    unprovable: tuple[str, ...] = Field(
        default=(),
        description="why the verification was inconclusive: what is missing on this host, or what pg_restore cannot create again",
    )
    tables: Count = 0
    rows: Count = 0
    stages: dict[str, Seconds] = Field(default_factory=dict, description="seconds by stage")
    measures: dict[str, float] = Field(
        default_factory=dict,
        description="for a base backup: `rpo` and `rto` in seconds, `replay` in bytes a second, `reached` as a Unix time",
    )
    server: str = Field(default="", description="version of the server that it was restored into")
    tool: str = ""

    @property
    def restore_seconds(self) -> float:
        """Duration of the restore, from the bucket to a database that answers."""
        return sum(self.stages.get(stage, 0.0) for stage in ("download", "globals", "restore"))

    @property
    def verify_seconds(self) -> float:
        return max(0.0, (self.finished - self.started).total_seconds())


class Attempt(Document):
    """One attempt at a backup, verification, prune, … The newest of a kind contains the totals of all before it."""

    kind_of_document: ClassVar[str] = "attempt"

    id: str
    kind: Kind
    database: str
    backup: str | None = None
    continues: str = Field(
        default="",
        description="ID of the record of the start, if the store does not allow replacing that record",
    )
    outcome: Outcome
    started: Moment
    finished: Moment | None = None
    host: str = ""
    pid: Count = 0
    error: str | None = None
    hint: str | None = None
    totals: dict[str, Count] = Field(
        default_factory=dict, description="number of attempts so far by outcome, including this one"
    )
    store_errors: dict[str, Count] = Field(
        default_factory=dict, description="number of failed store operations so far"
    )
    new_errors: dict[str, Count] = Field(default_factory=dict, description="number of them in this attempt")
    problems: tuple[str, ...] = Field(default=(), description="problems that did not make the attempt fail")
    decisions: dict[str, Count] = Field(
        default_factory=dict, description="for a prune: number of backups by decision"
    )
    blocked: tuple[str, ...] = Field(default=(), description="why a prune deleted nothing")
    deleted: tuple[str, ...] = Field(
        default=(), description="IDs that prunes have deleted so far, newest last"
    )
    measures: dict[str, Seconds] = Field(
        default_factory=dict, description="for a restore or drill: seconds by stage"
    )


def added(so_far: dict[str, int], new: dict[str, int]) -> dict[str, int]:
    """The sum of two counts by key."""
    return {key: so_far.get(key, 0) + new.get(key, 0) for key in sorted({*so_far, *new})}


def errors_so_far(attempts: Sequence[Attempt]) -> dict[str, int]:
    """Number of failed store operations, from the attempt that ended last."""
    finished = [attempt for attempt in attempts if attempt.finished]
    return (
        max(finished, key=lambda attempt: attempt.finished or attempt.started).store_errors
        if finished
        else {}
    )


def continued(main: Sequence[Attempt], elsewhere: Sequence[Attempt]) -> list[Attempt]:
    """Attempts from elsewhere, with totals that continue those of the main store."""
    known = {(each.kind, each.continues or each.id) for each in main if each.finished}
    newest = {attempt.kind: attempt.totals for attempt in main if attempt.totals}
    errors = errors_so_far(main)
    found = []
    for attempt in sorted(elsewhere, key=lambda attempt: attempt.started):
        if (attempt.kind, attempt.id) in known:
            continue
        totals = dict(newest.get(attempt.kind, {}))
        if attempt.finished:
            totals[attempt.outcome] = totals.get(attempt.outcome, 0) + 1
        newest[attempt.kind] = totals
        errors = added(errors, attempt.new_errors)
        found.append(attempt.model_copy(update={"totals": totals, "store_errors": errors}))
    return found
