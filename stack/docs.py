"""``./ops docs``: writes the generated pages, and checks the others."""

from pathlib import Path

import click

from alerts.watch.settings import WatchSettings
from backup.settings import BackupSettings
from exporters.settings import ExporterSettings
from sidecar.settings import Settings, env_example, markdown_table
from stack import pages
from stack.paths import ROOT

CONFIGURATION = ROOT / "docs" / "configuration.md"
EXAMPLE = ROOT / ".env.production.example"
FURTHER = "# --- Everything else that the sidecars know, with its default (written by ./ops docs) ---"
SIDECARS: dict[str, tuple[type[Settings], str]] = {
    "The Celery exporter": (ExporterSettings, "`python -m exporters`; a command-line option wins over its variable."),
    "The backup sidecar": (BackupSettings, "`python -m backup`; the service and its commands read the same variables."),
}  # fmt: skip
HEAD = """# Configuration

Both sidecars are configured by environment variables and check all of them once, at the start: a wrong one is named
with its value, exit code 2, before anything is touched. Each variable `NAME` can be given as `NAME_FILE` instead, the
path of a file that holds the value, as Docker and Kubernetes mount secrets. An empty variable counts as not set.

The app's own variables are in [app.md](app.md). This page is produced from the settings by `./ops docs`.
"""


def configuration() -> str:
    """The text of docs/configuration.md."""
    parts = [HEAD]
    for title, (settings, text) in SIDECARS.items():
        parts.append(f"## {title}\n\n{text}\n\n{markdown_table(settings)}")
    return "\n".join(parts)


def example() -> str:
    """The text of .env.production.example: what is written by hand, then every setting that is not in it."""
    written = EXAMPLE.read_text(encoding="utf-8").partition(FURTHER)[0].rstrip()
    known = {line.partition("=")[0] for line in written.splitlines() if "=" in line and line[0] != "#"}
    blocks = [
        env_example(settings, known=known) for settings in (ExporterSettings, BackupSettings, WatchSettings)
    ]
    return "\n".join([f"{written}\n", FURTHER, *blocks])


@click.command("docs")
@click.option("--check", is_flag=True, help="Write nothing; report what is out of date or broken.")
def docs(*, check: bool) -> int:
    """Write the documentation that is generated from the code.

    \b
    Examples:
      ./ops docs            after a setting has changed
      ./ops docs --check    generated pages, links, the index, quoted messages, the map of the source
    """
    if not check:
        _write(CONFIGURATION, configuration())
        _write(EXAMPLE, example())
        return 0
    problems = [*outdated(), *pages.problems()]
    for problem in problems:
        click.echo(problem)
    return 1 if problems else 0


def outdated() -> list[str]:
    """Generated pages that differ from what the code would generate now."""
    generated = {CONFIGURATION: configuration(), EXAMPLE: example()}
    return [
        f"{path.relative_to(ROOT)} is out of date: run ./ops docs"
        for path, text in generated.items()
        if path.read_text(encoding="utf-8") != text
    ]


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    click.echo(f"wrote {path.relative_to(ROOT)}")
