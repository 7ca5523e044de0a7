"""The results of the demo, step by step."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Outcome:
    """The result of a step.

    Args:
        lines: the measured values, for a person.
        data: the same, for a script.
        passed: whether everything that was promised was seen.
        disturbs: whether the step removes data that customers request, so that some of their requests may fail.
    """

    lines: tuple[str, ...]
    data: dict[str, Any]
    passed: bool
    disturbs: bool = False


@dataclass(frozen=True)
class Step:
    """One finished step: its title, its result and its duration in seconds."""

    title: str
    outcome: Outcome
    seconds: float


@dataclass
class Results:
    """The whole demo: start-up time, steps, addresses, pictures, and the error that ended it early, if any."""

    factor: float
    start_seconds: float = 0.0
    steps: list[Step] = field(default_factory=list)
    urls: dict[str, str] = field(default_factory=dict)
    pictures: list[str] = field(default_factory=list)
    error: str | None = None

    @property
    def passed(self) -> bool:
        return self.error is None and bool(self.steps) and all(step.outcome.passed for step in self.steps)

    def document(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "passed": self.passed,
            "error": self.error,
            "time_factor": self.factor,
            "start_seconds": round(self.start_seconds, 1),
            "steps": [
                {
                    "step": number,
                    "title": step.title,
                    "passed": step.outcome.passed,
                    "seconds": round(step.seconds, 1),
                    **step.outcome.data,
                }
                for number, step in enumerate(self.steps, 1)
            ],
            "urls": self.urls,
            "pictures": self.pictures,
        }
