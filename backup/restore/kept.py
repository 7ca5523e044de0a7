"""The databases that restores, promotions and rollbacks left on a server, and how to drop one."""

from dataclasses import dataclass
from typing import Literal

from backup.postgres.databases import WORKING, Databases, Mark, databases
from backup.postgres.dsn import Address
from sidecar import UsageError

State = Literal["production", "restored", "before", "undone", "unfinished"]
_DROPPABLE = ("restored", "before", "undone")
HINT = "list them: python -m backup databases"


@dataclass(frozen=True)
class Kept:
    """One database.

    Attributes:
        size: bytes on the server's disk.
        mark: its mark; None if a restore never touched it.
        connected: its connections by application.
    """

    name: str
    state: State
    size: int
    mark: Mark | None
    connected: tuple[str, ...]

    @property
    def droppable(self) -> bool:
        return self.state in _DROPPABLE


def read(server: Databases) -> list[Kept]:
    """Production first, then the kept databases by name."""
    production, marks = server.address.database, server.marks()
    unfinished = server.starting_with(WORKING)
    others = sorted(name for name in marks if name != production)
    names = [production] if server.exists(production) else []
    return [_kept(server, name, marks.get(name)) for name in (*names, *others, *unfinished)]


def _kept(server: Databases, name: str, mark: Mark | None) -> Kept:
    state: State = "production"
    if name.startswith(WORKING):
        state = "unfinished"
    elif name != server.address.database and mark is not None:
        # A copy of production, or one that is in production under another name, keeps a mark that does not apply here.
        state = mark.state if mark.state in ("restored", "before", "undone") else "production"
    return Kept(name, state, server.size(name), mark, tuple(server.connected(name)))


def choose(server: Databases, name: str) -> Kept:
    """The database that may be dropped.

    Raises:
        UsageError: it does not exist, it is in production, or it is not ours.
    """
    found = next((each for each in read(server) if each.name == name), None)
    if found is None:
        raise UsageError(f"{name} was not left by a restore or a promotion; nothing was dropped", hint=HINT)
    if not found.droppable:
        where = (
            "an unfinished restore, which the next restore removes"
            if found.state == "unfinished"
            else "production"
        )
        raise UsageError(f"{name} is {where}; nothing was dropped", hint=HINT)
    return found


def is_way_back(server: Databases, name: str) -> bool:
    """Whether a rollback of production would need this database."""
    mark = server.marks().get(server.address.database)
    return mark is not None and mark.state == "promoted" and mark.partner == name


def drop(production: Address, name: str) -> None:
    """Drop a database that a restore or a promotion left; see :func:`choose`."""
    with databases(production) as server, server.lock(production.database), server.lock(name):
        choose(server, name)
        server.drop(name)
