"""Whether a container is up, still starting, or has ended, from ``docker inspect``."""

import json
from dataclasses import dataclass

# A single crash may only mean that the database is still starting.
MAX_RESTARTS = 2


@dataclass(frozen=True)
class ContainerState:
    """The state of a container.

    Args:
        status: the engine's word, such as running or exited; empty if there is no container.
        health: healthy, unhealthy or starting; empty without a health check.
    """

    status: str
    health: str
    restarts: int

    @classmethod
    def parse(cls, inspected: str) -> "ContainerState":
        """Read the output of ``docker inspect``."""
        try:
            found = json.loads(inspected)[0]
        except (ValueError, IndexError):
            return cls("", "", 0)
        state = found.get("State", {})
        health = (state.get("Health") or {}).get("Status", "")
        return cls(state.get("Status", ""), health, found.get("RestartCount", 0))

    @property
    def is_up(self) -> bool:
        return self.status == "running" and self.health in ("healthy", "")

    @property
    def has_ended(self) -> bool:
        """Whether waiting longer changes nothing."""
        return self.status not in ("running", "restarting", "created") or self.restarts > MAX_RESTARTS

    def __str__(self) -> str:
        if self.status == "running":
            return self.health or self.status
        return self.status or "missing"
