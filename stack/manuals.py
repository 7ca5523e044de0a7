"""The manual pages and the shell completion of the installed commands, made from the commands themselves."""

import importlib
import re
from collections.abc import Iterator
from inspect import cleandoc

import click
from click.shell_completion import get_completion_class

from posthub_ops.commands import COMMANDS
from posthub_ops.wheel import installed
from sidecar.version import __version__
from stack.paths import ROOT

FOLDER = ROOT / "deploy"
# Shell → the folder of its completion files below a prefix, and their names.
SHELLS = {"bash": "{name}.bash", "zsh": "_{name}", "fish": "{name}.fish"}


def generated() -> dict[str, str]:
    """Every file by its path in deploy/."""
    found = {}
    for name, group in _groups():
        found[f"man/{name}.1"] = manual(name, group)
        for shell, form in SHELLS.items():
            found[f"completions/{form.format(name=name)}"] = completion(name, group, shell)
    return found


def _groups() -> Iterator[tuple[str, click.Command]]:
    for name, (module, attribute, _) in COMMANDS.items():
        yield name, getattr(importlib.import_module(module), attribute)


def completion(name: str, group: click.Command, shell: str) -> str:
    """The script that a shell loads; it asks the command itself, so that it never goes out of date."""
    kind = get_completion_class(shell)
    assert kind is not None
    return kind(group, {}, name, f"_{name.upper().replace('-', '_')}_COMPLETE").source() + "\n"


def manual(name: str, group: click.Command) -> str:
    """A manual page in roff: the command, then each of its subcommands with its options."""
    context = click.Context(group, info_name=name)
    lines = [
        f'.TH "{name.upper()}" "1" "" "{_release()}" "Ops sidecars"',
        ".SH NAME",
        f"{_roff(name)} \\- {_roff(_first(group))}",
        ".SH SYNOPSIS",
        f".B {_roff(name)}",
        " ".join(group.collect_usage_pieces(context)),
        ".SH DESCRIPTION",
        *_text(group),
        ".SH OPTIONS AND COMMANDS",
        *_commands(group, context, name),
        ".SH EXIT STATUS",
        "0 done, 1 failed, 2 wrong usage or configuration, 130 interrupted.",
        ".SH ENVIRONMENT",
        "Settings are environment variables, each also as NAME_FILE; see docs/configuration.md.",
    ]
    return "\n".join(lines) + "\n"


def _release() -> str:
    return ".".join(__version__.split(".")[:2])


def _commands(group: click.Command, context: click.Context, path: str) -> Iterator[str]:
    """The options of a command, and its subcommands."""
    yield from _options(group, context)
    if not isinstance(group, click.Group):
        return
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        inner = click.Context(command, parent=context, info_name=name)
        yield f'.SS "{_roff(f"{path} {name}")} {_roff(" ".join(command.collect_usage_pieces(inner)))}"'
        yield from _text(command)
        yield from _commands(command, inner, f"{path} {name}")


def _options(command: click.Command, context: click.Context) -> Iterator[str]:
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None:
            yield from (".TP", f".B {_roff(record[0])}", _roff(" ".join(record[1].split())))


def _first(command: click.Command) -> str:
    return cleandoc(command.help or "").splitlines()[0].rstrip(".")


def _text(command: click.Command) -> Iterator[str]:
    """The help text; paragraphs that must not be filled are examples."""
    for block in re.split(r"\n\s*\n", installed(cleandoc(command.help or ""))):
        if block.startswith("\b"):
            yield from (".PP", ".nf", *(_roff(line) for line in block.splitlines()[1:]), ".fi")
        else:
            yield from (".PP", _roff(" ".join(block.split())))


def _roff(text: str) -> str:
    """Text escaped for roff."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace('"', "\\(dq").replace("…", "\\&...")
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped
