"""`python -m dashboards`: build, check, push and draw the dashboards."""

from pathlib import Path

import click

from dashboards import catalogue
from dashboards.lint import problems
from dashboards.live import committed
from sidecar.cli import main as run_command
from sidecar.errors import OpsError


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Grafana dashboards: build, check, push, render."""


@main.command()
def build() -> None:
    """Write the dashboards' JSON from the Python code."""
    changed = catalogue.build()
    click.echo(f"{len(catalogue.boards())} dashboards built, {len(changed)} files changed")


@main.command()
def check() -> None:
    """Fail when the committed JSON is not what the code builds, or breaks a rule."""
    stale = catalogue.out_of_sync()
    if stale:
        raise OpsError(f"dashboards out of sync: {', '.join(stale)}", hint="./ops dashboards build")
    found = [str(problem) for dashboard in committed() for problem in problems(dashboard)]
    if found:
        raise OpsError("\n".join(found), hint="fix the panel, or give a reason in dashboards/json/.lint")
    click.echo(f"{len(catalogue.boards())} dashboards in sync, no rule broken")


@main.command()
@click.option(
    "--prometheus-url",
    envvar="PROMETHEUS_URL",
    default="http://127.0.0.1:9090",
    show_default=True,
    help="Prometheus to ask (PROMETHEUS_URL)",
)
@click.option(
    "--dashboard", "uids", multiple=True, help="Only this dashboard (uid or its end, such as celery)"
)
@click.option("--range", "span", default="1h", show_default=True, help="How far back, such as 30m or 7d")
@click.option("--theme", type=click.Choice(["dark", "light"]), default="dark", show_default=True)
@click.option("--scrape-interval", default=15.0, show_default=True, help="Seconds between scrapes")
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder for the PNGs"
)
def render(
    prometheus_url: str, uids: tuple[str, ...], span: str, theme: str, scrape_interval: float, out: Path
) -> None:
    """Draw dashboards from a live Prometheus into PNG. A rendering, not Grafana."""
    # matplotlib takes a second to import: only who draws waits for it.
    from dashboards.render import render_all

    for path in render_all(prometheus_url, uids, span, theme, out, scrape_interval=scrape_interval):
        click.echo(path)


@main.command()
@click.option("--url", envvar="GRAFANA_URL", required=True, help="Grafana's address (GRAFANA_URL)")
@click.option(
    "--token-file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="File with the token"
)
@click.option("--folder", default="PostHub", show_default=True, help="Folder for the dashboards")
def push(url: str, token_file: Path | None, folder: str) -> None:
    """Send every dashboard to a Grafana. The token comes from a file or from GRAFANA_TOKEN."""
    from dashboards.push import Grafana, push_all, read_token

    for line in push_all(Grafana(url, read_token(token_file)), folder):
        click.echo(line)


if __name__ == "__main__":
    run_command(main, prog="python -m dashboards")
