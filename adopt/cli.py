"""``ops-init``."""

import re
from pathlib import Path

import click

from adopt.commands import STACKS
from adopt.files import Project, files
from adopt.output import Written, write
from adopt.parts import Used
from sidecar import UsageError, cli

# Part → the description of its address in the question.
PARTS = {
    "celery": "the Celery exporter", "backup": "the backup sidecar", "django": "the app's /metrics (django-prometheus)",
    "redis": "redis_exporter", "postgres": "postgres_exporter", "node": "node_exporter", "cadvisor": "cAdvisor",
}  # fmt: skip
_NAME = re.compile(r"[a-z][a-z0-9-]{0,30}")
_ADDRESS = re.compile(r"[\w.-]+:\d{1,5}|\[[0-9a-f:]+\]:\d{1,5}")


@click.command("init", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--app", prompt="Name of the app (lower case)", help="The app's name; everything is called after it."
)
@click.option(
    "--part", "parts", multiple=True, metavar="NAME=HOST:PORT",
    help=f"A part that you run, and its address; repeatable: {', '.join(PARTS)}. Others bring no jobs, alerts or tiles.",
)  # fmt: skip
@click.option("--beat/--no-beat", default=True, show_default=True, help="Whether celery beat sends tasks.")
@click.option("--alertmanager", default="localhost:9093", show_default=True, help="Address of Alertmanager.")
@click.option("--grafana", default="http://localhost:3000", show_default=True, help="Grafana, for links.")
@click.option("--runbooks", help="Where the pages of alerts will be found; default: the folder itself.")
@click.option(
    "--stack", type=click.Choice(STACKS), default="compose", show_default=True, help="What runs the app."
)
def init(
    folder: Path, app: str, parts: tuple[str, ...], beat: bool, alertmanager: str, grafana: str, runbooks: str | None,
    stack: str,
) -> None:  # fmt: skip
    """Write the monitoring of your project into a folder: Prometheus, Alertmanager, rules, dashboards, alert pages.

    Run it again after a change or an upgrade: files that you have edited are kept, and the new text is put next to them.

    \b
    Example:
      ops-init monitoring --app shop --part celery=localhost:9808 --part backup=localhost:9809
    """
    if not _NAME.fullmatch(app):
        raise UsageError(f"--app {app!r} is not a valid name", hint="lower-case letters, digits and dashes")
    project = Project(
        app, Used(_jobs(parts), beat=beat), grafana.rstrip("/"),
        (runbooks or f"file://{folder.absolute()}/runbooks").rstrip("/"), stack=stack, alertmanager=_address(alertmanager),
    )  # fmt: skip
    _show(folder, write(folder, files(project)))


def _jobs(parts: tuple[str, ...]) -> dict[str, str]:
    jobs = {}
    for text in parts:
        name, _, address = text.partition("=")
        if name not in PARTS:
            raise UsageError(f"--part {text}: {name!r} is not a part", hint=f"one of {', '.join(PARTS)}")
        jobs[name] = _address(address)
    if not jobs:
        raise UsageError("no part is given", hint="--part celery=localhost:9808 --part backup=localhost:9809")
    return jobs


def _address(text: str) -> str:
    if not _ADDRESS.fullmatch(text):
        raise UsageError(f"{text!r} is not an address", hint="give host:port, such as localhost:9808")
    return text


def _show(folder: Path, written: Written) -> None:
    for what, paths in (
        ("new", written.new), ("changed", written.changed), ("removed", written.gone),
        ("kept, because you have edited it (see .new)", written.kept),
    ):  # fmt: skip
        if len(paths) > 5:
            cli.echo(f"{len(paths)} files are {what}")
        else:
            for path in paths:
                cli.echo(f"{what}: {folder / path}")
    cli.echo(
        "next: set the secrets of your receivers (see ops-alerts render --help), then start "
        f"prometheus --config.file={folder}/prometheus.yml"
    )
