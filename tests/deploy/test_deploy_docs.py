"""The commands of the documentation: programs, subcommands and options that exist."""

import re
import shlex
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import click
import pytest

from backup.cli import backup
from stack.cli import ops
from stack.paths import ROOT

PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "runbooks").rglob("*.md")])
# In a fence or between backticks, up to the part that the shell would interpret.
CODE = re.compile(r"^```sh\n(.*?)^```|`([^`\n]+)`", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"(python -m backup|\./ops|(?<![\w/])runbooks/[\w-]+\.sh)((?: +[^\s|;&()#>]+)*)")


def commands(page: Path) -> Iterator[tuple[str, list[str]]]:
    for fence, inline in CODE.findall(page.read_text(encoding="utf-8")):
        for program, words in COMMAND.findall((fence or inline).replace("\\\n", " ")):
            # Placeholders such as [ID|latest] or … are for the reader.
            yield program, [word for word in shlex.split(words) if not re.search(r"[\[\]…]", word)]


def parse(command: click.Command, words: list[str]) -> None:
    """As the program would, without running anything.

    Raises:
        click.UsageError: there is no such command, option or value.
    """
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        name, *words = words
        found = command.get_command(click.Context(command), name)
        if found is None:
            raise click.UsageError(f"there is no command {name}")
        command = found
    # Prose mentions a command without its required arguments.
    with suppress(click.exceptions.Exit, click.exceptions.NoArgsIsHelpError, click.MissingParameter):
        command.make_context("docs", list(words))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_of_a_page_exist(page: Path) -> None:
    for program, words in commands(page):
        if program.startswith("runbooks/"):
            assert (ROOT / program).is_file(), program
            continue
        try:
            parse(backup if program == "python -m backup" else ops, words)
        except click.UsageError as error:
            pytest.fail(f"{program} {' '.join(words)}: {error.format_message()}")


def test_the_migration_page_uses_such_commands() -> None:
    found = [" ".join([program, *words]) for program, words in commands(ROOT / "docs" / "migration.md")]
    assert any(line.startswith("python -m backup restore") for line in found)
    assert len(found) >= 10
