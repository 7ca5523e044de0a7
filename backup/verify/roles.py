"""Roles that were restored, compared with those of the backup: attributes, settings, comments, memberships."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator

from backup.cancellation import Check, never
from backup.catalogue.records import Difference
from backup.postgres import dump, roles
from backup.postgres.dsn import Address
from backup.programs import Programs

MAX_SHOWN = 200
Statements = dict[str, Counter[bytes]]


def dumped(programs: Programs, server: Address, check: Check = never) -> list[bytes]:
    """A server's roles as statements, in the form of a backup."""
    with dump.globals_sql(server, programs, check) as source:
        return roles.parse(b"".join(iter(source.read, b"")))


def by_role(statements: Iterable[bytes], *, exact: bool) -> Statements:
    """Statements by the role that they concern.

    Args:
        exact: the same major version wrote them; other versions print memberships with different options.
    """
    found: Statements = defaultdict(Counter)
    for name, statement in roles.about(statements):
        found[name][statement if exact else roles.without_options(statement)] += 1
    return found


def compare(expected: Statements, found: Statements, names: Collection[str]) -> Iterator[Difference]:
    """The differences in some roles."""
    for name in sorted(names):
        missing, more = expected[name] - found[name], found[name] - expected[name]
        if missing or more:
            # Of a cluster whose encoding is not UTF-8.
            shown = name.encode(errors="surrogateescape").decode(errors="replace")
            yield Difference(kind="role", object=shown, expected=_shown(missing), found=_shown(more))


def _shown(statements: Counter[bytes]) -> str:
    text = " ".join(statement.decode(errors="replace") for statement in sorted(statements))
    return (text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…") or "nothing"
