"""What a check finds."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from stack.doctor.host import Host


@dataclass(frozen=True)
class Check:
    """One finding.

    Args:
        ok: None when it could not be told, or is worth a thought but stops nothing.
        fix: what to do, for anything but ✔.
    """

    name: str
    ok: bool | None
    detail: str
    fix: str = ""


@dataclass(frozen=True)
class Case:
    """What is examined: a checkout on a host, and the settings that it has."""

    root: Path
    host: Host
    settings: Mapping[str, str] = field(default_factory=dict)


Examiner = Callable[[Case], Iterator[Check]]
