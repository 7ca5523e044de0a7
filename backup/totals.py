"""Counts that go on from record to record, also where the records come from another place."""

from collections.abc import Sequence

from backup.records import Record


def added(so_far: dict[str, int], new: dict[str, int]) -> dict[str, int]:
    """Two counts as one."""
    return {key: so_far.get(key, 0) + new.get(key, 0) for key in sorted({*so_far, *new})}


def errors_so_far(records: Sequence[Record]) -> dict[str, int]:
    """Failed store operations, as the record that ended last counts them."""
    finished = [record for record in records if record.finished]
    return (
        max(finished, key=lambda record: record.finished or record.started).store_errors if finished else {}
    )


def continued(main: Sequence[Record], elsewhere: Sequence[Record]) -> list[Record]:
    """Records whose totals began at nothing, as if they had been written to the main store like the others."""
    known = {(record.kind, record.id) for record in main if record.finished}
    newest = {record.kind: record.totals for record in main if record.totals}
    errors = errors_so_far(main)
    found = []
    for record in sorted(elsewhere, key=lambda record: record.started):
        if (record.kind, record.id) in known:
            continue
        totals = dict(newest.get(record.kind, {}))
        if record.finished:
            totals[record.outcome] = totals.get(record.outcome, 0) + 1
        newest[record.kind] = totals
        errors = added(errors, record.new_errors)
        found.append(record.model_copy(update={"totals": totals, "store_errors": errors}))
    return found
