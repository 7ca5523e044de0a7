"""Where timelines branch: the content of PostgreSQL's history files. Pure."""

import re
from dataclasses import dataclass

from backup.errors import CatalogueError
from backup.physical import lsn

# A timeline forks from another one at most once in a segment; no server is promoted more often than this.
MAX_FORKS = 100_000
MAX_HISTORY_BYTES = 8 << 20
_FORK = re.compile(
    r"\s*(?P<timeline>\d{1,10})\s+(?P<position>[0-9A-F]{1,8}/[0-9A-F]{1,8})(?:\s.*)?", re.ASCII
)


@dataclass(frozen=True)
class Fork:
    """Where a timeline ends and the next one of a history begins."""

    timeline: int
    position: int


def parse_history(data: bytes, timeline: int, where: str) -> tuple[Fork, ...]:
    """The ancestors of a timeline, oldest first, from its history file.

    Raises:
        CatalogueError: the bytes are not a history of this timeline.
    """
    forks: list[Fork] = []
    lines = data[:MAX_HISTORY_BYTES].decode(errors="replace").splitlines()
    for line in lines:
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        found = _FORK.fullmatch(line)
        fork = Fork(int(found["timeline"]), lsn.parse(found["position"])) if found else None
        before = forks[-1] if forks else Fork(0, 0)
        if fork is None or not before.timeline < fork.timeline < timeline or fork.position < before.position:
            raise _not_history(where, line)
        forks.append(fork)
    if not forks or len(forks) > MAX_FORKS or len(data) > MAX_HISTORY_BYTES:
        raise _not_history(where, f"{len(forks)} forks in {len(data)} bytes")
    return tuple(forks)


def _not_history(where: str, line: str) -> CatalogueError:
    return CatalogueError(
        f"{where} is not the history of a timeline: {line[:60]!r}",
        hint="take a new base backup: python -m backup run; recover on the timeline of an older base with --timeline",
    )
