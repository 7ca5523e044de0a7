"""The command line: one file per command, imported when it is called."""

import importlib
from typing import NoReturn

import click

from backup import __version__, confinement
from sidecar import cli

COMMANDS = {
    "run": ("backup.cli.run:run", "Take a backup now."),
    "list": ("backup.cli.list:list_backups", "List the backups in the store, newest first."),
    "show": ("backup.cli.show:show", "Show the details of a backup."),
    "diff": ("backup.cli.diff:diff", "Compare two backups by their manifests."),
    "download": ("backup.cli.download:download", "Write a backup as plain files for pg_restore or Redis."),
    "hold": ("backup.cli.hold:hold", "Keep a backup until it is released."),
    "release": ("backup.cli.hold:release", "End the hold on a backup; the retention rules apply again."),
    "verify": ("backup.cli.verify:verify", "Restore a backup into a throwaway server and compare it."),
    "restore": ("backup.cli.restore:restore", "Restore a backup into a new database and verify it."),
    "import": ("backup.cli.take_in:take_in", "Store a dump that was made elsewhere as a backup."),
    "mark": ("backup.cli.mark:mark", "Set a mark in the WAL of a server, to recover to it later."),
    "promote": (
        "backup.cli.promote:promote",
        "Swap a restored database into production; the old one is kept.",
    ),
    "rollback": (
        "backup.cli.rollback:rollback",
        "Undo the last promotion.",
    ),
    "databases": (
        "backup.cli.databases:list_databases",
        "List or drop the databases that restores and promotions left behind.",
    ),
    "drill": ("backup.cli.drill:drill", "Practise the whole restore in a throwaway server."),
    "prune": ("backup.cli.prune:prune", "Delete backups that no retention rule keeps."),
    "doctor": ("backup.cli.doctor:doctor", "Check the whole setup end to end."),
    "keygen": ("backup.cli.keygen:keygen", "Create a key for the encryption of backups."),
    "wal": ("backup.cli.wal:wal", "Stream the WAL of servers, and show what can be recovered."),
    "serve": ("backup.cli.serve:serve", "Run the schedules, the metrics and the status page."),
}


class Commands(click.Group):
    """A group that imports only the command that is used, so that a one-shot run does not load the service."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - required by the base class
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
@click.version_option(__version__)
def backup() -> None:
    """Back up PostgreSQL and Redis, prove each backup by a restore, and apply a retention policy.

    \b
    Settings come from the environment; docs/configuration.md lists them. Required:
      DATABASE_URL       postgresql://user:password@host:5432/database
      BACKUP_STORE_URL   s3://bucket/prefix or file:///folder
    """


def main() -> NoReturn:
    confinement.hide_memory()
    cli.main(backup, prog="python -m backup")
