"""What benchmarks have in common: a place to work in, and rounds in which each subject has its turn."""

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, TypeVar

import click


class Timed(Protocol):
    """A measurement that says how long it took."""

    @property
    def seconds(self) -> float: ...


T = TypeVar("T", bound=Timed)


def measure(subjects: Mapping[str, Callable[[], T]], rounds: int) -> dict[str, list[T]]:
    """Every subject once a round, so that a change of the machine's load meets all of them."""
    results: dict[str, list[T]] = {name: [] for name in subjects}
    for number in range(rounds):
        for name, subject in subjects.items():
            results[name].append(subject())
            click.echo(f"round {number + 1} {name}: {results[name][-1].seconds:.1f} s", err=True)
    return results


@contextmanager
def workshop(folder: Path | None, prefix: str) -> Iterator[Path]:
    """The folder, made if need be; without one a temporary folder that is removed at the end."""
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix=prefix) as made:
        yield Path(made)
