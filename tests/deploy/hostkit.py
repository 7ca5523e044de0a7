"""A fake host, which answers as a test configures it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stack.doctor.host import COMPOSE, Done, Host


class FakeHost(Host):
    """Healthy in every respect, unless configured otherwise.

    Args:
        answers: beginning of a command line → what it does.
    """

    def __init__(self, root: Path, answers: Mapping[str, Done] | None = None) -> None:
        super().__init__(root)
        self.answers = dict(answers or {})
        self.names: dict[str, list[str]] = {}
        self.reachable = True
        self.free: dict[int, bool] = {}
        self.clock: float | None = None
        self.room = 100 * 1024**3

    def run(self, *command: str) -> Done:
        line = " ".join(command).removeprefix(" ".join(COMPOSE) + " ")
        best = max((key for key in self.answers if line.startswith(key)), key=len, default=None)
        return self.answers[best] if best is not None else Done(0, "")

    def addresses(self, name: str) -> list[str]:
        return self.names.get(name, ["203.0.113.10"])

    def own_addresses(self) -> list[str]:
        return ["127.0.0.1", "203.0.113.10"]

    def connects(self, name: str, port: int) -> bool:
        return self.reachable

    def is_free(self, port: int) -> bool:
        return self.free.get(port, True)

    def time_of(self, url: str) -> float | None:
        return self.clock

    def free_bytes(self, path: Path) -> int:
        return self.room


def as_json(value: Any) -> Done:
    return Done(0, json.dumps(value))
