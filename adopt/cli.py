"""``ops-init``."""

import re
import sys
from collections.abc import Iterable
from pathlib import Path

import click

from adopt.commands import STACKS
from adopt.deploy import SIDECARS, address_of, next_steps
from adopt.files import Project, files
from adopt.output import Written, write
from adopt.parts import Used
from sidecar import UsageError, cli
from sidecar.version import __version__

# Part → the description of its address in the question.
PARTS = {
    "celery": "the Celery exporter",
    "backup": "the backup sidecar",
    "django": "the app's /metrics (django-prometheus)",
    "redis": "redis_exporter",
    "postgres": "postgres_exporter",
    "node": "node_exporter",
    "cadvisor": "cAdvisor",
}
_NAME = re.compile(r"[a-z][a-z0-9-]{0,30}")
_ADDRESS = re.compile(r"[\w.-]+:\d{1,5}|\[[0-9a-f:]+\]:\d{1,5}")


@click.command("init", context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--app", prompt="Name of the app (lower case)", help="The app's name; everything is named after it."
)
@click.option(
    "--part",
    "parts",
    multiple=True,
    metavar="NAME[=HOST:PORT]",
    help=f"A part that you run, and its address; repeatable: {', '.join(PARTS)}. Other parts get no jobs, alerts or tiles.",
)
@click.option("--beat/--no-beat", default=None, help="Whether celery beat sends tasks.  [default: beat]")
@click.option(
    "--alertmanager", help="Address of Alertmanager; default: that of the stack, such as localhost:9093."
)
@click.option("--grafana", default="http://localhost:3000", show_default=True, help="Grafana, for links.")
@click.option("--runbooks", help="Address of the alert pages; default: the folder itself.")
@click.option(
    "--stack", type=click.Choice(STACKS), help="What runs the app and the sidecars.  [default: compose]"
)
def init(
    folder: Path,
    app: str,
    parts: tuple[str, ...],
    beat: bool | None,
    alertmanager: str | None,
    grafana: str,
    runbooks: str | None,
    stack: str | None,
) -> None:
    """Write the monitoring of your project into a folder: Prometheus, Alertmanager, rules, dashboards, alert pages.

    Also the sidecars themselves: a compose file, systemd units or a kustomization, with a file of settings for each to
    fill in. On a terminal, it asks for the parts that are not named by options.

    Run it again after a change or an upgrade: files that you have edited are kept, and the new text is written next to them.

    \b
    Examples:
      ops-init monitoring
      ops-init monitoring --app shop --part celery --part backup --part redis=cache:9121 --stack systemd
    """
    if not _NAME.fullmatch(app):
        raise UsageError(f"--app {app!r} is not a valid name", hint="lower-case letters, digits and dashes")
    asked = not parts and _on_terminal()
    stack = stack or (
        click.prompt("What runs it", type=click.Choice(STACKS), default="compose") if asked else "compose"
    )
    jobs = _asked(app, stack) if asked else _jobs(parts, app, stack)
    if beat is None:
        beat = not (asked and "celery" in jobs) or click.confirm("Does celery beat send tasks?", default=True)
    project = Project(
        app,
        Used(jobs, beat=beat),
        grafana.rstrip("/"),
        (runbooks or f"file://{folder.absolute()}/runbooks").rstrip("/"),
        stack=stack,
        alertmanager=_address(alertmanager or address_of("alertmanager", app, stack)),
        prometheus=address_of("prometheus", app, stack),
    )
    _show(folder, write(folder, files(project)), next_steps(app, jobs, stack))


def _on_terminal() -> bool:
    return sys.stdin.isatty()


def _asked(app: str, stack: str) -> dict[str, str]:
    """The parts that the person at the terminal confirms."""
    jobs = {}
    for name, what in PARTS.items():
        if click.confirm(f"Monitor {what}?", default=name in SIDECARS):
            jobs[name] = _address(click.prompt("  its address", default=address_of(name, app, stack)))
    return _some(jobs)


def _jobs(parts: tuple[str, ...], app: str, stack: str) -> dict[str, str]:
    jobs = {}
    for text in parts:
        name, given, address = text.partition("=")
        if name not in PARTS:
            raise UsageError(f"--part {text}: {name!r} is not a part", hint=f"one of {', '.join(PARTS)}")
        jobs[name] = _address(address) if given else address_of(name, app, stack)
    return _some(jobs)


def _some(jobs: dict[str, str]) -> dict[str, str]:
    if not jobs:
        raise UsageError("no part is given", hint="--part celery --part backup")
    return jobs


def _address(text: str) -> str:
    if not _ADDRESS.fullmatch(text):
        raise UsageError(f"{text!r} is not an address", hint="give host:port, such as localhost:9808")
    return text


def _show(folder: Path, written: Written, steps: Iterable[str]) -> None:
    for what, paths in (
        ("new", written.new),
        ("changed", written.changed),
        ("removed", written.gone),
        ("kept, because you have edited it (see .new)", written.kept),
    ):
        if len(paths) > 5:
            cli.echo(f"{len(paths)} files are {what}")
        else:
            for path in paths:
                cli.echo(f"{what}: {folder / path}")
    cli.echo(f"next, in {folder}:")
    for number, step in enumerate(steps, 1):
        cli.echo(f"  {number}. {step}")
