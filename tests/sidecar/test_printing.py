"""Text from a database, a bucket or a broker is shown as it is: no markup, no control characters, no second line."""

import ast
import json
from contextlib import redirect_stdout
from io import StringIO

import pytest
from hypothesis import example, given
from hypothesis.strategies import text
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sidecar import cli
from stack.paths import ROOT

SOURCES = ("backup", "exporters", "alerts", "dashboards", "stack", "sidecar", "adopt", "runbooks")


def test_nothing_from_outside_is_markup() -> None:
    table = Table("name", "rows")
    cli.row(table, "[/bold] [red]x[/red] \x1b[31m \u202e \n", Text("1"))
    out = StringIO()
    Console(file=out, width=200).print(table)
    assert r"[/bold] [red]x[/red] \x1b[31m \u202e \n" in out.getvalue()


def test_a_line_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    cli.echo("ok\nError: forged\r\x1b]0;title\x07 é 漢")
    assert capsys.readouterr().out == "ok\\nError: forged\\r\\x1b]0;title\\x07 é 漢\n"
    assert cli.printable("a\nb\x00", lines=True) == "a\nb\\x00"


@given(text())
@example("büro 漢")
@example("\x1b[2J\x7f\x9b31m\u202e\udcff\U000e0001")
def test_json_keeps_letters_for_scripts_and_escapes_what_controls_a_terminal(value: str) -> None:
    with redirect_stdout(StringIO()) as out:
        cli.print_json([value])
    assert json.loads(out.getvalue()) == [value]
    assert all(char.isprintable() or char == "\n" for char in out.getvalue())
    assert all(char in out.getvalue() for char in value if char.isprintable())


@pytest.mark.parametrize("package", SOURCES)
def test_tables_are_filled_by_one_function_only(package: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in (ROOT / package).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "add_row"
    ]
    assert [place for place in found if not place.startswith("sidecar/cli.py:")] == [], (
        "use sidecar.cli.row()"
    )


def test_the_backup_commands_print_by_one_function_only() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in (ROOT / "backup" / "cli").glob("*.py")
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if "click.echo(" in line and "cli.printable(" not in line
    ]
    assert found == [], "use sidecar.cli.echo()"
