"""What the demo measured, step by step."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Outcome:
    """What came of a step.

    Args:
        lines: the measured facts, for a person.
        data: the same, for a script.
        held: whether everything that was promised was seen.
    """

    lines: tuple[str, ...]
    data: dict[str, Any]
    held: bool


@dataclass(frozen=True)
class Step:
    """One step of the story: what was shown, what came of it, and how long it took."""

    title: str
    outcome: Outcome
    seconds: float


@dataclass
class Facts:
    """The whole story: start-up seconds, steps, where things run, pictures of it, and what ended it before its time."""

    factor: float
    start_seconds: float = 0.0
    steps: list[Step] = field(default_factory=list)
    urls: dict[str, str] = field(default_factory=dict)
    pictures: list[str] = field(default_factory=list)
    error: str | None = None

    @property
    def held(self) -> bool:
        return self.error is None and bool(self.steps) and all(step.outcome.held for step in self.steps)

    def document(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "held": self.held,
            "error": self.error,
            "time_factor": self.factor,
            "start_seconds": round(self.start_seconds, 1),
            "steps": [
                {
                    "step": number,
                    "title": step.title,
                    "held": step.outcome.held,
                    "seconds": round(step.seconds, 1),
                    **step.outcome.data,
                }
                for number, step in enumerate(self.steps, 1)
            ],
            "urls": self.urls,
            "pictures": self.pictures,
        }
