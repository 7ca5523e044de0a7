"""Decides whether a restore failed only because the original itself has what ``pg_restore`` cannot create again.

Rows may violate a constraint that PostgreSQL regards as valid: they came in while triggers were disabled, or a function was
changed after them. A function may need a search path, which a restore leaves empty. Such a database works, and its backup is
as good as ``pg_dump`` can make it, but it cannot be restored as it is. That is not damage, and no proof either.

Everything else has to be equal, and the archive must have as many rows as were counted in the original.
"""

import re
from collections.abc import Container, Iterable, Iterator, Sequence

from backup.catalogue.manifest import Manifest
from backup.catalogue.records import Difference
from backup.load.pg_restore import Refusals, command_of, described
from backup.postgres.archive import Entry

_NAME = r'(?:"(?:[^"]|"")+"|[^\s"(;]+)+'
_COPY = re.compile(r'COPY failed for table "(?P<table>.+?)": ')
_FUNCTION = re.compile(r"(?:CONTEXT: +)?(?:SQL|PL/\w+) function (?P<name>\"[^\"]+\"|[^\s(]+)")
_NOT_FOUND = re.compile(r"ERROR: +(?P<what>.* does not exist.*)")
_REFERENCED = re.compile(r'is not present in table "(?P<table>.+)"\.')
# Of an object that could not be restored either.
_CONSEQUENCE = re.compile(
    r"does not exist|has not been populated|there is no unique constraint matching given keys|has no index"
)
_AGAIN = "correct them in the original, or add the constraint again as NOT VALID"
# Rows that violate a constraint. PostgreSQL names no schemas.
_VIOLATIONS = tuple(
    (re.compile(pattern), f"pg_restore cannot {why}")
    for pattern, why in (
        (
            r'on table "(?P<table>.+)" violates foreign key constraint "(?P<name>.+)"',
            f"create the foreign key {{name}} of {{table}}, which rows violate: {_AGAIN}",
        ),
        (
            r'new row for relation "(?P<table>.+)" violates check constraint "(?P<name>.+)"',
            f"restore the rows of {{table}}, which violate its check constraint {{name}}: {_AGAIN}",
        ),
        (
            r'value for domain (?P<domain>\S+) violates check constraint "(?P<name>.+)"',
            f"restore the rows of {{rows}}, which violate the constraint {{name}} of the domain {{domain}}: {_AGAIN}",
        ),
        (
            r"domain (?P<domain>\S+) does not allow null values",
            "restore the rows of {rows}, which lack values of the domain {domain}: set them in the original",
        ),
        (
            r'column "(?P<name>.+)" of relation "(?P<table>.+)" (?:violates not-null constraint|contains null values)',
            "restore {table}: rows have no value in {name}, which is NOT NULL: set it in the original",
        ),
        (
            r'could not create unique index "(?P<name>.+)"',
            "create the unique index {name}: rows have the same key: delete the duplicates in the original, and REINDEX it",
        ),
        (
            r'could not create exclusion constraint "(?P<name>.+)"',
            "create the exclusion constraint {name}, which rows violate: correct them in the original, and REINDEX it",
        ),
        (
            r'new row for relation ".+" violates partition constraint|no partition of relation ".+" found for row',
            "restore the rows of {rows}, which do not belong into this partition: move them in the original",
        ),
    )
)
_SUBJECTS = tuple(
    (re.compile(pattern), what)
    for pattern, what in (
        (rf"CREATE (?:UNIQUE )?INDEX ({_NAME}) ON", "create the index {}"),
        (rf"REFRESH MATERIALIZED VIEW ({_NAME})", "fill the materialized view {}"),
        (rf"ALTER TABLE (?:ONLY )?({_NAME})", "create a constraint of {}"),
        (rf"CREATE (?:UNLOGGED )?TABLE ({_NAME})", "create the table {}"),
        (rf"CREATE (?:MATERIALIZED )?VIEW ({_NAME})", "create the view {}"),
    )
)
_REFRESH = "REFRESH MATERIALIZED VIEW "


def reasons(
    refusals: Refusals, entries: Iterable[Entry], differences: Sequence[Difference], manifest: Manifest
) -> list[str]:
    """Why the original cannot be restored as it is; empty if something else is different, too.

    Args:
        entries: those of the archive.
        differences: all that a verification found.
    """
    messages = _counted(refusals.messages, differences)
    if not messages or not refusals.complete:
        return []
    failed = [entry for entry in entries if entry.id in refusals.entries]
    found = list(_judged(messages, failed))
    if None in found or any(not _follows(each, failed, manifest) for each in differences):
        return []
    return list(dict.fromkeys(filter(None, found)))


def _counted(messages: Iterable[Sequence[str]], differences: Iterable[Difference]) -> list[Sequence[str]]:
    """The errors without those of materialized views that are not a difference, because they read another server."""
    counted = {each.found for each in differences if each.kind == "restore"}
    return [
        each for each in messages if not command_of(each).startswith(_REFRESH) or described(each) in counted
    ]


def _judged(messages: Iterable[Sequence[str]], failed: Sequence[Entry]) -> Iterator[str | None]:
    """A description of each error, which is empty if it follows from another one; None if there is no explanation."""
    emptied = {entry.name for entry in failed if entry.kind == b"TABLE DATA"}
    names = {word for entry in failed for word in _words(entry)}
    for message in messages:
        why = _function(message, failed) or _violation(message, failed, emptied)
        if why is None and _CONSEQUENCE.search(message[0]):
            why = "" if any(_mentions(message[0], name) for name in names) else None
        if why is None and command_of(message).startswith(_REFRESH):
            why = f"pg_restore cannot {_doing(message, failed)}, because its query fails: correct it in the original"
        yield why


def _function(message: Sequence[str], failed: Sequence[Entry]) -> str | None:
    """An error of a function that the restore called."""
    name = next((found["name"].strip('"') for found in map(_FUNCTION.match, message[1:]) if found), "")
    if not name:
        return None
    doing = _doing(message, failed)
    if missing := _NOT_FOUND.search(message[0]):
        return (
            f"pg_restore cannot {doing}, because the function {name} needs a search path, which a restore leaves empty"
            f" ({missing['what']}): ALTER FUNCTION {name} SET search_path = … in the original"
        )
    return f"pg_restore cannot {doing}, because the function {name} fails: correct it in the original"


def _violation(message: Sequence[str], failed: Sequence[Entry], emptied: Container[str]) -> str | None:
    """Rows that violate a constraint; empty if the rows that they refer to could not be restored."""
    for pattern, why in _VIOLATIONS:
        if found := pattern.search(message[0]):
            if any(each["table"] in emptied for each in map(_REFERENCED.search, message[1:]) if each):
                return ""
            texts = {name: text or "" for name, text in found.groupdict().items()}
            copied = _COPY.search(message[0])
            texts["rows"] = _label(copied["table"], failed) if copied else "a table"
            texts["table"] = _label(texts.get("table", ""), failed)
            return why.format(**texts)
    return None


def _doing(message: Sequence[str], failed: Sequence[Entry]) -> str:
    """What pg_restore attempted."""
    if copied := _COPY.search(message[0]):
        return f"restore the rows of {_label(copied['table'], failed)}"
    command = command_of(message)
    for pattern, what in _SUBJECTS:
        if found := pattern.match(command):
            return what.format(found[1])
    return "create an object"


def _label(name: str, failed: Sequence[Entry]) -> str:
    """The name with its schema, if only one of the entries has it."""
    schemas = {entry.schema for entry in failed if name in _words(entry)}
    return f"{schemas.pop()}.{name}" if len(schemas) == 1 else name


def _words(entry: Entry) -> tuple[str, ...]:
    """The name of an entry's object; that of a constraint follows the name of its table."""
    return entry.name, *entry.name.split(" ", 1)


def _mentions(text: str, name: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text) is not None


def _follows(difference: Difference, failed: Sequence[Entry], manifest: Manifest) -> bool:
    """Whether a difference is one of what could not be restored."""
    if difference.kind == "restore":
        return True
    labels = {(entry.kind.decode().lower(), _full(entry)) for entry in failed}
    tables = {label for kind, label in labels if kind == "table data"}
    if difference.kind == "rows":
        return difference.object in tables
    if difference.kind == "table data":
        rows = {table.label: table.rows for table in manifest.tables}
        whole = difference.expected == f"{rows.get(difference.object)} rows"
        return difference.object in tables and whole
    if difference.kind == "operators":
        return difference.found == "nothing"
    return (difference.kind, difference.object) in labels or (difference.kind == "check" and bool(tables))


def _full(entry: Entry) -> str:
    return f"{entry.schema}.{entry.name}" if entry.schema else entry.name
