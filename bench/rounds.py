"""Shared by benchmarks: a working folder, and rounds in which each subject runs once."""

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, TypeVar

import click


class Timed(Protocol):
    """A measurement with its duration."""

    @property
    def seconds(self) -> float: ...


T = TypeVar("T", bound=Timed)


def measure(subjects: Mapping[str, Callable[[], T]], rounds: int) -> dict[str, list[T]]:
    """Run every subject once per round, so that a change of the machine's load affects all of them."""
    results: dict[str, list[T]] = {name: [] for name in subjects}
    for number in range(rounds):
        for name, subject in subjects.items():
            results[name].append(subject())
            click.echo(f"round {number + 1} {name}: {results[name][-1].seconds:.1f} s", err=True)
    return results


@contextmanager
def workshop(folder: Path | None, prefix: str) -> Iterator[Path]:
    """The folder, created if missing; without one, a temporary folder that is removed at the end."""
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix=prefix) as made:
        yield Path(made)
