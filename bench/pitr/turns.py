"""Measurements that take turns: the pace of a machine changes meanwhile, so each is compared with those of its own round."""

import statistics
from collections.abc import Callable, Mapping, Sequence

import click

from bench.pitr.ledger import Figures

Round = Mapping[str, float]


def take_turns(subjects: Mapping[str, Callable[[], float]], rounds: int) -> list[Round]:
    """Measure every subject once per round; every second round in reverse, so that a steady change favours none."""
    found: list[Round] = []
    for number in range(rounds):
        order = list(subjects)[:: -1 if number % 2 else 1]
        found.append({name: subjects[name]() for name in order})
        shown = ", ".join(f"{name} {found[-1][name]:.4g}" for name in subjects)
        click.echo(f"round {number + 1}: {shown}", err=True)
    return found


def compared(title: str, rounds: Sequence[Round], subject: str, reference: str) -> Figures:
    """The median of the ratios of two subjects, and how far their middle half spreads: that much is noise."""
    ratios = [each[subject] / each[reference] for each in rounds]
    low, middle, high = (
        statistics.quantiles(ratios, n=4, method="inclusive") if len(ratios) > 1 else ratios * 3
    )
    return {f"{title}_ratio": middle, f"{title}_lower_ratio": low, f"{title}_upper_ratio": high}


def median(rounds: Sequence[Round], subject: str) -> float:
    """The median of one subject."""
    return statistics.median(each[subject] for each in rounds)
