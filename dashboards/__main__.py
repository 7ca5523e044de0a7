"""`python -m dashboards`: build, check, push and render the dashboards."""

import sys
from pathlib import Path

try:
    import click

    from dashboards import catalogue
    from dashboards.lint import problems
    from dashboards.live_check import committed
    from sidecar.cli import main as run_command
    from sidecar.errors import OpsError
    from sidecar.version import __version__
except KeyboardInterrupt:
    sys.exit(130)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """Build, check, push and render the Grafana dashboards.

    \b
    Examples:
      ./ops dashboards build                                  write dashboards/json/ from the code
      ./ops dashboards check                                  check that the JSON is up to date
      ./ops dashboards push --url https://grafana.example.org
      ./ops dashboards render --range 1h --out pictures/      draw PNGs without Grafana
    """


@main.command()
def build() -> None:
    """Write the JSON from the Python code."""
    changed = catalogue.build()
    click.echo(f"{len(catalogue.boards())} dashboards built, {len(changed)} files changed")


@main.command()
def check() -> None:
    """Check that the JSON is up to date and passes the lint rules."""
    stale = catalogue.out_of_sync()
    if stale:
        raise OpsError(f"dashboards out of sync: {', '.join(stale)}", hint="./ops dashboards build")
    found = [str(problem) for dashboard in committed() for problem in problems(dashboard)]
    if found:
        raise OpsError(
            "\n".join(found),
            hint="fix the panel, or add an exclusion with its reason to dashboards/json/.lint",
        )
    click.echo(f"{len(catalogue.boards())} dashboards in sync, no lint problems")


@main.command()
@click.option(
    "--prometheus-url",
    envvar="PROMETHEUS_URL",
    default="http://127.0.0.1:9090",
    show_default=True,
    help="Address of Prometheus (PROMETHEUS_URL).",
)
@click.option("--dashboard", "uids", multiple=True, help="Only this dashboard, such as celery; repeatable.")
@click.option("--range", "span", default="1h", show_default=True, help="Time range, such as 30m or 7d.")
@click.option("--theme", type=click.Choice(["dark", "light"]), default="dark", show_default=True)
@click.option("--scrape-interval", default=15.0, show_default=True, help="Seconds between scrapes.")
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder for the PNGs."
)
def render(
    prometheus_url: str, uids: tuple[str, ...], span: str, theme: str, scrape_interval: float, out: Path
) -> None:
    """Draw dashboards as PNG from a live Prometheus.

    The pictures are drawn by matplotlib, not by Grafana.
    """
    # matplotlib takes a second to import.
    from dashboards.render import render_all

    for path in render_all(prometheus_url, uids, span, theme, out, scrape_interval=scrape_interval):
        click.echo(path)


@main.command()
@click.option("--url", envvar="GRAFANA_URL", required=True, help="Address of Grafana (GRAFANA_URL).")
@click.option(
    "--token-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File with the service account token.",
)
@click.option("--folder", default="PostHub", show_default=True, help="Title of the folder.")
def push(url: str, token_file: Path | None, folder: str) -> None:
    """Push all dashboards to a Grafana.

    The token is read from --token-file or from GRAFANA_TOKEN.
    """
    from dashboards.push import Grafana, push_all, read_token

    for line in push_all(Grafana(url, read_token(token_file)), folder):
        click.echo(line)


if __name__ == "__main__":
    run_command(main, prog="python -m dashboards")
