"""The commands of ./ops. Each one is imported when it is used, so that ``./ops help`` is fast."""

import importlib
from collections.abc import Sequence
from pathlib import Path

import click

VERBS = {
    "demo": ("stack.demo.cli:demo", "Run the whole suite on this machine and show what it does."),
    "test": ("stack.gates:test", "Run all quality gates and tests."),
    "bench": ("bench.__main__:bench", "Run the benchmarks, side by side with peers."),
    "alerts": ("alerts.__main__:main", "Check, test, fire and silence alerts."),
    "doctor": ("stack.doctor.cli:doctor", "Check a host before and after a deployment."),
    "deploy": ("stack.deploy.cli:deploy", "Deploy to the VPS or to Kubernetes, or roll back."),
    "lock": ("stack.lock:lock", "Update the lock files from pyproject.toml."),
    "docs": ("stack.docs:docs", "Write the generated pages, or check all pages."),
    "dashboards": ("dashboards.__main__:main", "Build, check, draw and push the Grafana dashboards."),
}


class Verbs(click.Group):
    """A group that imports a command's module only when the command is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*VERBS, *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in VERBS:
            return super().get_command(ctx, name)
        module, attribute = VERBS[name][0].split(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = [(name, help_line) for name, (_, help_line) in VERBS.items()]
        rows += [(name, self.commands[name].get_short_help_str()) for name in super().list_commands(ctx)]
        with formatter.section("Verbs"):
            formatter.write_dl(rows)


def _find(program: str) -> Path:
    """Pass :func:`stack.programs.find` to verbs that do not import `stack`."""
    from stack.programs import find

    return find(program)


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"], "obj": _find})
def ops() -> None:
    """PostHub ops sidecars: exporters, proven backups, alerts and dashboards.

    \b
    Examples:
      ./ops demo           watch everything work, then look around; Ctrl-C ends it
      ./ops demo --once    stop after the steps; exit 0 only if all passed
      ./ops test           all quality gates and tests
    """


@ops.command("help")
@click.argument("verb", nargs=-1)
@click.pass_context
def show_help(ctx: click.Context, verb: Sequence[str]) -> None:
    """List the commands, or explain one."""
    assert ctx.parent is not None
    if not verb:
        click.echo(ctx.parent.get_help())
        return
    command = ops.get_command(ctx.parent, verb[0])
    if command is None:
        raise click.UsageError(f"No such command {verb[0]!r}.", ctx.parent)
    click.echo(command.get_help(click.Context(command, info_name=verb[0], parent=ctx.parent)))
