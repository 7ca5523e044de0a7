"""The command."""

from collections.abc import Iterator
from dataclasses import asdict

import click
from rich.table import Table
from rich.text import Text

from sidecar.cli import print_json, row, stdout_console
from stack.doctor import billing, envfile, machine, outside, providers, secrets, services, settings, versions
from stack.doctor.check import Case, Check, Examiner
from stack.doctor.host import Host
from stack.paths import ROOT

BEFORE: tuple[Examiner, ...] = (
    settings.examine,
    secrets.examine,
    machine.examine,
    outside.examine,
    providers.examine,
    billing.examine,
)
AFTER: tuple[Examiner, ...] = (services.examine, versions.examine)
SIGNS = {True: Text("✔", "green"), False: Text("✖", "red"), None: Text("!", "yellow")}


@click.command()
@click.option("--env-file", default=".env.production", show_default=True, help="The settings of production.")
@click.option("--before", is_flag=True, help="Only the checks that a deployment needs.")
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON.")
@click.pass_context
def doctor(ctx: click.Context, *, env_file: str, before: bool, as_json: bool) -> None:
    """Check this host before a deployment, and the running services afterwards.

    Exit code 1 if a check fails; each ✖ says how to fix it.

    \b
    Examples:
      ./ops doctor --before
      ./ops doctor
    """
    case = Case(ROOT, Host(ROOT), envfile.read(ROOT / env_file))
    checks = list(examine(case, after=not before))
    if as_json:
        print_json([asdict(check) for check in checks])
    else:
        show(checks)
    ctx.exit(1 if any(check.ok is False for check in checks) else 0)


def examine(case: Case, *, after: bool) -> Iterator[Check]:
    """All checks; those of the running containers only if there are any."""
    for examiner in BEFORE:
        yield from examiner(case)
    if after and services.is_running(case):
        for examiner in AFTER:
            yield from examiner(case)


def show(checks: list[Check]) -> None:
    """The results as a table."""
    table = Table("", "what", "found", "fix", box=None)
    for check in checks:
        row(table, SIGNS[check.ok], check.name, check.detail, "" if check.ok else check.fix)
    stdout_console().print(table)
