"""The command line: one file a command, imported when it is called."""

import importlib
import signal
from typing import NoReturn

import click

from backup import __version__
from sidecar import cli

COMMANDS = {
    "run": ("backup.cli.run:run", "Make a backup now."),
    "list": ("backup.cli.list:list_backups", "List the backups in the store, newest first."),
    "show": ("backup.cli.show:show", "Show everything about one backup."),
    "verify": ("backup.cli.verify:verify", "Restore a backup into a throwaway server and compare."),
    "restore": ("backup.cli.restore:restore", "Restore a backup into a new database, and prove it there."),
    "promote": (
        "backup.cli.promote:promote",
        "Put a restored database in production's place; the old one is kept.",
    ),
    "rollback": (
        "backup.cli.rollback:rollback",
        "Put the database before the last promotion back in its place.",
    ),
    "drill": ("backup.cli.drill:drill", "Practise the whole restore in a throwaway server, and time it."),
    "prune": ("backup.cli.prune:prune", "Delete the backups that no retention rule wants any more."),
    "doctor": ("backup.cli.doctor:doctor", "Check everything end to end."),
    "serve": ("backup.cli.serve:serve", "Run the schedules, metrics and status page."),
}


class Commands(click.Group):
    """A group that loads only the command that is used: a one-shot run should not pay for the service."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - the base class names it
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:  # noqa: ARG002 - the same
        if name not in COMMANDS:
            return None
        module, attribute = COMMANDS[name][0].split(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - the same
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="backup")
def backup() -> None:
    """Back up PostgreSQL and Redis, prove each backup by restoring it, and keep what a policy wants kept.

    \b
    Settings come from the environment; docs/configuration.md lists them. At least:
      DATABASE_URL       postgresql://user:password@host:5432/database
      BACKUP_STORE_URL   s3://bucket/prefix or file:///folder
    """


def main() -> NoReturn:
    # Ended by a supervisor is ended like by Ctrl-C: what is half done is undone.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    cli.main(backup, prog="python -m backup")
