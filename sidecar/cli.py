"""The frame of every command: errors as ``Error:`` and ``Try:``, exit codes 0, 1 and 2, no traceback for users."""

import json
import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import click

from sidecar.errors import OpsError
from sidecar.signals import Ended

# Rich takes 8 MB, so services that print no table do not load it.
if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, ProgressColumn
    from rich.table import Table
    from rich.text import Text

INTERRUPTED = 130
_NOT_ASCII = re.compile(r"[^\n -~]")
# Minimum width, in columns, of output into a pipe or a log.
WIDE = 200


def run(command: click.Command, argv: Sequence[str] | None = None, *, prog: str | None = None) -> int:
    """Run a click command and return its exit code.

    0 done, 1 failed, 2 wrong usage or configuration, 130 interrupted. Messages go to stderr.
    """
    try:
        result = command.main(
            args=None if argv is None else list(argv), prog_name=prog, standalone_mode=False
        )
    except OpsError as error:
        return _report(error.message, error.hint, error.exit_code)
    except click.UsageError as error:
        usage = error.ctx.command_path if error.ctx else (prog or "")
        return _report(error.format_message(), f"{usage} --help".strip(), 2)
    except click.ClickException as error:
        return _report(error.format_message(), "run with --help", error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("Interrupted", err=True)
        return INTERRUPTED
    except Ended as ended:
        click.echo("Interrupted", err=True)
        return int(ended.code or INTERRUPTED)
    # With standalone_mode off, click returns an exit code (--help, ctx.exit) as the result.
    return result if isinstance(result, int) and not isinstance(result, bool) else 0


def main(command: click.Command, *, prog: str | None = None) -> NoReturn:
    """Run a click command with the process's arguments and exit with its code."""
    sys.exit(run(command, prog=prog))


def print_json(value: Any) -> None:
    """One JSON document on stdout, for scripts. Letters stay as they are: a shell script does not know JSON's ``\\u`` escapes."""
    text = json.dumps(value, indent=2, default=str, ensure_ascii=False)
    click.echo(
        _NOT_ASCII.sub(lambda char: char[0] if char[0].isprintable() else json.dumps(char[0])[1:-1], text)
    )


def printable(text: str, *, lines: bool = False) -> str:
    """The text with every control character escaped, so that data can neither forge a line nor control the terminal.

    Args:
        lines: leave line feeds as they are.
    """
    return "".join(
        char if char.isprintable() or (lines and char == "\n") else char.encode("unicode_escape").decode()
        for char in text
    )


def plain(text: str) -> str:
    """The text escaped for a place that interprets markup, such as the description of a progress bar."""
    from rich.markup import escape

    return escape(printable(text))


def echo(line: str, *, err: bool = False) -> None:
    """Print one line, whatever the text contains."""
    click.echo(printable(line), err=err)


def row(table: "Table", *cells: "str | Text") -> None:
    """Add a row to a table. A cell's text is never read as markup, whatever database or store it comes from."""
    from rich.text import Text

    table.add_row(*(Text(printable(cell)) if isinstance(cell, str) else cell for cell in cells))


def stderr_console() -> "Console":
    """A console on stderr: stdout stays free for results."""
    from rich.console import Console

    return Console(stderr=True)


def stdout_console() -> "Console":
    """A console on stdout. It is wide in a pipe or a log, so that no text is cut off there."""
    from rich.console import Console

    console = Console()
    return console if console.is_terminal else Console(width=max(WIDE, console.width))


def progress(*columns: "ProgressColumn") -> "Progress":
    """A progress display on a terminal; silent elsewhere, where log lines report the same."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = stderr_console()
    shown = columns or (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    return Progress(*shown, console=console, disable=not console.is_terminal, transient=True)


def _report(message: str, hint: str, code: int) -> int:
    click.echo(f"Error: {printable(message, lines=True)}", err=True)
    click.echo(f"Try: {printable(hint, lines=True)}", err=True)
    return code
