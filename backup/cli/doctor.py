"""``python -m backup doctor``."""

from dataclasses import asdict

import click
from rich.table import Table
from rich.text import Text

from backup.cli.common import json_option, load
from backup.doctor import Check, examine
from sidecar import cli

SIGNS = {True: Text("✔", "green"), False: Text("✖", "red"), None: Text("!", "yellow")}


@click.command()
@json_option
@click.pass_context
def doctor(ctx: click.Context, as_json: bool) -> None:
    """Check the whole setup end to end: stores, keys, versions, privileges, clocks, disk space.

    Exit code 1 if a check fails.

    \b
    Example:
      python -m backup doctor
    """
    wiring = load(discover=False)
    checks = list(examine(wiring))
    if as_json:
        cli.print_json([asdict(check) for check in checks])
    else:
        _show(checks)
    ctx.exit(1 if any(check.ok is False for check in checks) else 0)


def _show(checks: list[Check]) -> None:
    table = Table("", "what", "found", "try", box=None)
    for check in checks:
        sign = SIGNS[check.ok]
        cli.row(table, sign, check.name, check.detail, "" if check.ok else check.fix)
    cli.stdout_console().print(table)
