"""Checks and their results."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from stack.doctor.host import Host


@dataclass(frozen=True)
class Check:
    """The result of one check.

    Args:
        ok: None for a warning, or when the check was not possible.
        fix: what to do, unless ``ok`` is True.
    """

    name: str
    ok: bool | None
    detail: str
    fix: str = ""


@dataclass(frozen=True)
class Case:
    """What is checked: a checkout on a host, and its settings."""

    root: Path
    host: Host
    settings: Mapping[str, str] = field(default_factory=dict)


Examiner = Callable[[Case], Iterator[Check]]
