"""``./ops demo``."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import click
from rich.console import Console

from sidecar import OpsError, signals
from sidecar.cli import print_json, stderr_console
from stack.demo import folder as demo_folder
from stack.demo import frontend, pictures, stock
from stack.demo.facts import Facts
from stack.demo.story import Story
from stack.demo.teller import Teller
from stack.demo.traffic import Customer, Traffic, customers_of
from stack.paths import STATE
from stack.programs import find, missing
from stack.suite import Suite

TIME_FACTOR = 60.0
CUSTOMERS = 3
FAILED = 1


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--once", is_flag=True, help="Tell the story and stop.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print the facts as JSON on stdout (the story on stderr)."
)
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=STATE / "demo",
    show_default=".ops/demo",
    help="State and logs; emptied at the start.",
)
@click.option("--random-ports", is_flag=True, help="Do not even try the usual ports.")
def demo(*, once: bool, as_json: bool, folder: Path, random_ports: bool) -> int:
    """Run the whole suite here on real servers and show what it does.

    Starts PostgreSQL, Redis, an S3 server, the PostHub app with its web frontend, two Celery workers and beat, the
    exporter, the backup service, Prometheus, Alertmanager and a notification inbox; drives real traffic; takes a
    backup and proves it by a restore; damages it and kills a worker, and shows that somebody is told. Nothing is
    installed outside this folder, and everything ends with Ctrl-C.

    \b
    Examples:
      ./ops demo                 stay up to look around; Ctrl-C ends all
      ./ops demo --once          stop after the story; exit 0 only if every step held
      ./ops demo --once --json   the facts for a script
    """
    console = stderr_console() if as_json else Console()
    facts = Facts(factor=TIME_FACTOR)
    with (
        signals.orderly_end(), demo_folder.fresh(folder) as place, Teller(console) as teller, ExitStack() as meanwhile
    ):  # fmt: skip
        with _reported(facts, as_json=as_json):
            suite = _suite(place, teller, usual_ports=not random_ports)
            meanwhile.callback(_stop, suite, teller)
            _tell(suite, facts, teller, meanwhile)
        if not once:
            teller.busy("running; Ctrl-C ends everything")
            threading.Event().wait()
    return 0 if facts.held else FAILED


def _suite(place: Path, teller: Teller, *, usual_ports: bool) -> Suite:
    for program in ("redis-server", "prometheus", "alertmanager"):
        if missing(program):
            teller.busy(f"fetching {program} (only this time)")
            find(program)
    web = frontend.files(teller.line)
    return Suite(place, factor=TIME_FACTOR, usual_ports=usual_ports, on_restart=teller.line, web=web)


def _stop(suite: Suite, teller: Teller) -> None:
    signals.ignore()
    teller.busy("stopping everything")
    suite.stop()
    teller.line("everything is stopped")


@contextmanager
def _reported(facts: Facts, *, as_json: bool) -> Iterator[None]:
    """Print the facts for a script, also those of a story that did not come to its end."""
    try:
        yield
    except OpsError as error:
        facts.error = error.message
        raise
    except Exception as error:
        facts.error = f"{type(error).__name__}: {error}"
        raise
    except BaseException:
        facts.error = "interrupted"
        raise
    finally:
        if as_json:
            print_json(facts.document())


def _tell(suite: Suite, facts: Facts, teller: Teller, meanwhile: ExitStack) -> None:
    """Start everything and tell the story; what goes on beside it until the end is left to ``meanwhile``."""
    began = time.monotonic()
    teller.line(
        f"time factor {TIME_FACTOR:g}: a minute of alerting passes in {60 / TIME_FACTOR:g} s here, no hours are quiet"
    )
    teller.line(
        f"beat, exporter and backup look again every {suite.sources.pace} s; "
        f"a worker silent for {suite.sources.worker_timeout} s counts as gone"
    )
    customers: list[Customer] = []

    def prepare() -> None:
        seeded = suite.manage("seed_demo", "--users", str(CUSTOMERS), "--json")
        customers.extend(customers_of(json.loads(seeded)))
        stock.fill(suite.postgres.url)

    suite.start(lambda text: teller.line(f"started {text}"), after_migrations=prepare)
    facts.start_seconds = time.monotonic() - began
    teller.line(
        f"all is up after {facts.start_seconds:.1f} s; {len(customers)} customers, {stock.ROWS:,} older posts"
    )
    traffic = meanwhile.enter_context(Traffic(suite.api.url, customers))
    for step in Story(suite, traffic, teller.busy).tell():
        facts.steps.append(step)
        teller.chapter(step)
    facts.urls = _urls(suite)
    teller.busy("drawing dashboards")
    facts.pictures = [str(path) for path in pictures.draw(suite.prometheus.url, suite.folder / "dashboards")]
    _show(suite, facts, teller)


def _urls(suite: Suite) -> dict[str, str]:
    return {
        **({"PostHub": suite.web.url} if suite.web else {}),
        "PostHub API": f"{suite.api.url}/api/v1/health/",
        "Prometheus": suite.prometheus.url,
        "Alertmanager": suite.alertmanager.url,
        "Notification inbox": suite.inbox.url,
        "Backup status": suite.backup.url,
        "Celery exporter": f"{suite.exporter.url}/metrics",
        "S3 server": suite.store.url,
        "PostgreSQL": f"127.0.0.1:{suite.postgres.port}",
        "Redis": f"127.0.0.1:{suite.redis.port}",
    }


def _show(suite: Suite, facts: Facts, teller: Teller) -> None:
    teller.table("What runs where", ("part", "address"), list(facts.urls.items()))
    if suite.web:
        teller.line(frontend.SIGN_IN)
    teller.line(f"logs: {suite.logs}")
    teller.line(
        f"{len(facts.pictures)} dashboards as pictures (drawn here, not by Grafana): {suite.folder / 'dashboards'}"
    )
    shown = sum(step.outcome.held for step in facts.steps)
    teller.line(f"{shown} of {len(facts.steps)} steps held")
