"""The demo's output: a spinner with the current activity on a terminal, plain lines elsewhere."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console as RichConsole
from rich.markup import escape
from rich.status import Status
from rich.table import Table

from sidecar import cli
from stack.demo.results import Step

TOTAL_STEPS = 7


class Console:
    """Prints the demo's progress and results, each line with the seconds since its start."""

    def __init__(self, console: RichConsole) -> None:
        self._console = console
        self._began = time.monotonic()
        self._status: Status | None = console.status("starting") if console.is_terminal else None
        self._number = 0

    def __enter__(self) -> Self:
        if self._status is not None:
            self._status.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._status is not None:
            self._status.stop()

    def busy(self, text: str) -> None:
        """Show the current activity."""
        if self._status is not None:
            self._status.update(escape(text))
        else:
            self.line(f"  … {text}")

    def line(self, text: str) -> None:
        """Print a line."""
        self._console.print(
            f"[dim]{time.monotonic() - self._began:5.1f} s[/] {escape(text)}", highlight=False, soft_wrap=True
        )

    def step(self, step: Step) -> None:
        """Print a finished step with its results."""
        self._number += 1
        mark = "[green]✔[/]" if step.outcome.passed else "[red]✖[/]"
        self._console.print(
            f"{mark} [bold]{self._number}/{TOTAL_STEPS} {escape(step.title)}[/]", highlight=False
        )
        for text in step.outcome.lines:
            self._console.print(f"    {escape(text)}", highlight=False, soft_wrap=True)

    def table(self, title: str, columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
        """Print a table."""
        table = Table(*columns, title=title, title_justify="left")
        for each in rows:
            cli.row(table, *each)
        self._console.print(table)
