"""``./ops demo``."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import click
from rich.console import Console as RichConsole

from sidecar import OpsError, signals
from sidecar.cli import print_json, stderr_console
from stack.demo import exporters, frontend, seed_posts
from stack.demo import folder as demo_folder
from stack.demo.console import Console
from stack.demo.results import Results
from stack.demo.start_page import StartPage
from stack.demo.story import Story
from stack.demo.traffic import Customer, Traffic, customers_of
from stack.paths import STATE
from stack.programs import fetch, missing
from stack.programs.kits import SERVERS
from stack.suite import Suite

TIME_FACTOR = 60.0
CUSTOMERS = 3
FAILED = 1


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--once", is_flag=True, help="Stop after the seven steps.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print the results as JSON on stdout, and the progress on stderr."
)
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=STATE / "demo",
    show_default=".ops/demo",
    help="Folder for state and logs; emptied at the start.",
)
@click.option("--random-ports", is_flag=True, help="Use random ports even if the usual ones are free.")
def demo(*, once: bool, as_json: bool, folder: Path, random_ports: bool) -> int:
    """Run the whole suite on this machine and show what it does.

    Starts PostgreSQL, Redis, an S3 server, the PostHub app with its web frontend, two Celery workers and beat, the
    exporter, the backup service, Prometheus, Alertmanager and a notification inbox. Then it sends real requests, publishes
    an image, takes a backup and proves it by restoring it. It damages the backup, kills a worker, and shows that both are
    reported. Nothing is installed outside this folder, and Ctrl-C ends everything.

    \b
    Examples:
      ./ops demo                 keep everything running; Ctrl-C ends it
      ./ops demo --once          stop after the seven steps; exit 0 only if all passed
      ./ops demo --once --json   print the results for a script
    """
    console = stderr_console() if as_json else RichConsole()
    results = Results(factor=TIME_FACTOR)
    with (
        signals.orderly_end(),
        demo_folder.fresh(folder) as place,
        Console(console) as output,
        ExitStack() as meanwhile,
    ):
        with _reported(results, as_json=as_json):
            suite = _suite(place, output, usual_ports=not random_ports)
            meanwhile.callback(_stop, suite, results, output)
            _run(suite, results, output, meanwhile)
        if not once:
            output.busy("running; Ctrl-C ends everything")
            threading.Event().wait()
    return 0 if results.passed else FAILED


def _suite(place: Path, output: Console, *, usual_ports: bool) -> Suite:
    if any(map(missing, SERVERS)):
        output.busy(f"fetching {', '.join(SERVERS)} (first run only)")
        fetch(SERVERS)
    return Suite(
        place,
        factor=TIME_FACTOR,
        usual_ports=usual_ports,
        on_restart=output.line,
        rules_left_out=exporters.RULES_LEFT_OUT,
    )


def _stop(suite: Suite, results: Results, output: Console) -> None:
    signals.ignore()
    output.busy("stopping everything")
    suite.stop()
    output.line("everything is stopped")
    if results.passed:
        demo_folder.tidy(suite.folder)


@contextmanager
def _reported(results: Results, *, as_json: bool) -> Iterator[None]:
    """Print the results for a script, even if the demo ended early."""
    try:
        yield
    except OpsError as error:
        results.error = error.message
        raise
    except Exception as error:
        results.error = f"{type(error).__name__}: {error}"
        raise
    except BaseException:
        results.error = "interrupted"
        raise
    finally:
        if as_json:
            print_json(results.document())


def _run(suite: Suite, results: Results, output: Console, meanwhile: ExitStack) -> None:
    """Start everything and run the steps; the traffic continues until ``meanwhile`` is closed."""
    began = time.monotonic()
    output.line(
        f"time factor {TIME_FACTOR:g}: a minute of alerting takes {60 / TIME_FACTOR:g} s here, and there are no quiet hours"
    )
    output.line(
        f"beat, exporter and backup poll every {suite.sources.pace} s; "
        f"a worker without a heartbeat for {suite.sources.worker_timeout} s counts as down"
    )
    pages = meanwhile.enter_context(StartPage(suite, suite.folder / "dashboards", port=suite.ports["start"]))
    output.line(f"start page: {pages.url} (it lists each part as soon as it runs)")
    customers: list[Customer] = []

    def prepare() -> None:
        seeded = suite.manage("seed_demo", "--users", str(CUSTOMERS + 1), "--json")
        customers.extend(customers_of(json.loads(seeded)))
        seed_posts.fill(suite.postgres.url)

    suite.start(lambda text: output.line(f"started {text}"), after_migrations=prepare)
    results.start_seconds = time.monotonic() - began
    output.line(
        f"everything is up after {results.start_seconds:.1f} s; {len(customers)} customers, {seed_posts.ROWS:,} older posts"
    )
    others = exporters.Starting(suite, output.line)
    meanwhile.callback(others.stop)
    building = frontend.Building(output.line)
    traffic = meanwhile.enter_context(Traffic(suite.api.url, customers[:-1]))
    for step in Story(suite, traffic, customers[-1], output.busy).run():
        results.steps.append(step)
        output.step(step)
    # The frontend may still be building: it has low priority.
    output.busy("drawing dashboards")
    others.wait()
    # Only now: importing matplotlib takes longer than all other modules together.
    from stack.demo import pictures

    try:
        drawn = pictures.draw(suite.prometheus.url, suite.folder / "dashboards")
        results.pictures = [str(path) for path in drawn]
    except OpsError as error:
        # The steps have their result; it must not depend on pictures.
        output.line(f"dashboards are not drawn: {error.message}")
    output.busy("building the web frontend")
    if files := building.result():
        suite.serve_web(files)
    results.urls = _urls(pages)
    _show(suite, results, pages, output)


def _urls(pages: StartPage) -> dict[str, str]:
    return {"Start page": pages.url, **{place.name: place.url for place in pages.places()}}


def _show(suite: Suite, results: Results, pages: StartPage, output: Console) -> None:
    output.table("Addresses", ("part", "address"), list(results.urls.items()))
    for login in pages.logins():
        output.line(f"{login.name}: {login.command}")
    if suite.web:
        output.line(frontend.SIGN_IN)
    output.line(f"logs: {suite.logs}")
    output.line(
        f"{len(results.pictures)} pictures of dashboards (drawn without Grafana): {suite.folder / 'dashboards'}"
    )
    shown = sum(step.outcome.passed for step in results.steps)
    output.line(f"{shown} of {len(results.steps)} steps passed")
