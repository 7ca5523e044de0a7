"""Parses the promtool unit tests: which alert they expect to fire or to stay silent."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from alerts.paths import TESTS
from sidecar.rulefile import document

FIRES, SILENT = "fires", "silent"


@dataclass(frozen=True)
class Case:
    """One test of one alert.

    Args:
        alert: the alert's name.
        kind: ``fires`` or ``silent``, from the test's name.
        text: the situation, from the test's name.
        expected: number of expected alerts at each evaluation time.
        labels: the label names of every expected alert.
    """

    file: str
    alert: str
    kind: str
    text: str
    expected: tuple[int, ...]
    labels: tuple[frozenset[str], ...]

    @property
    def is_consistent(self) -> bool:
        """Whether a case named ``fires`` expects alerts, and one named ``silent`` expects none."""
        return bool(self.expected) and all(bool(count) == (self.kind == FIRES) for count in self.expected)


def cases(folder: Path = TESTS) -> list[Case]:
    """Every alert test in a folder."""
    return [case for path in sorted(folder.glob("*.yml")) for case in _cases(path)]


def _cases(path: Path) -> Iterator[Case]:
    for test in document(path)["tests"]:
        title, _, text = test.get("name", "").partition(": ")
        alert, _, kind = title.partition(" ")
        moments = [case for case in test.get("alert_rule_test", []) if case["alertname"] == alert]
        expected = [moment.get("exp_alerts") or [] for moment in moments]
        yield Case(
            path.stem,
            alert,
            kind,
            text,
            tuple(len(found) for found in expected),
            tuple(frozenset(firing.get("exp_labels", {})) for found in expected for firing in found),
        )
