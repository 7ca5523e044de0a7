"""What the demo measured, step by step."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Step:
    """One step of the story.

    Args:
        title: what was shown.
        lines: the measured facts, for a person.
        data: the same, for a script.
        held: whether everything that was promised was seen.
        seconds: how long the step took.
    """

    title: str
    lines: tuple[str, ...]
    data: dict[str, Any]
    held: bool
    seconds: float


@dataclass
class Facts:
    """The whole story: start-up seconds, steps, where things run, and pictures of it."""

    factor: float
    start_seconds: float = 0.0
    steps: list[Step] = field(default_factory=list)
    urls: dict[str, str] = field(default_factory=dict)
    pictures: list[str] = field(default_factory=list)

    @property
    def held(self) -> bool:
        return bool(self.steps) and all(step.held for step in self.steps)

    def document(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "held": self.held,
            "time_factor": self.factor,
            "start_seconds": round(self.start_seconds, 1),
            "steps": [
                {
                    "step": number,
                    "title": step.title,
                    "held": step.held,
                    "seconds": round(step.seconds, 1),
                    **step.data,
                }
                for number, step in enumerate(self.steps, 1)
            ],
            "urls": self.urls,
            "pictures": self.pictures,
        }
