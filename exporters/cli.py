"""``python -m exporters``: the commands."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import click
import orjson
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from exporters.pipeline import Pipeline
from exporters.report import Findings, QueueFacts, examine, look, queue_facts
from exporters.service import Exporter
from exporters.settings import ExporterSettings, parse_option
from sidecar import logs
from sidecar.cli import print_json, stdout_console
from sidecar.cli import row as table_row
from sidecar.errors import OpsError, UsageError
from sidecar.signals import request_on_end
from sidecar.version import __version__

# Within which a broker that is up has answered.
SUBSCRIBE_SECONDS = 5.0
SHOWN = ("name", "queue", "runtime", "exception", "retries", "eta", "active", "processed")


def broker_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that name the broker."""
    url = click.option(
        "--broker-url",
        "broker_urls",
        multiple=True,
        metavar="[NAME=]URL",
        help="The broker, as Celery's broker_url; repeat it for further brokers. Prefer CELERY_EXPORTER_BROKER_URL "
        "or CELERY_EXPORTER_BROKER_URL_FILE when it holds a password.",
    )
    option = click.option(
        "--broker-transport-option",
        "transport_option",
        multiple=True,
        metavar="NAME=VALUE",
        help="One of Celery's broker_transport_options, for example global_keyprefix=shop:. Repeatable.",
    )
    return url(option(command))


JSON = click.option("--json", "as_json", is_flag=True, help="JSON on stdout, for scripts.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="celery exporter")
def exporters() -> None:
    """Celery's tasks, workers, queues and beat as Prometheus metrics.

    \b
    Examples:
      python -m exporters serve --broker-url redis://127.0.0.1:6379/0
      python -m exporters check --broker-url redis://127.0.0.1:6379/0
      python -m exporters queues --watch
      python -m exporters events --type task-failed

    Every option is also read from CELERY_EXPORTER_… (docs/configuration.md has the list).
    """


@exporters.command()
@broker_options
@click.option("--host", help="Address to listen on (default 0.0.0.0).")
@click.option("--port", type=int, help="Port to listen on (default 9808).")
@click.option("-Q", "--queues", help="Queues to show even when nothing names them yet: default,mail.")
@click.option(
    "--worker-timeout",
    type=float,
    help="Seconds without a heartbeat after which a worker is down (default 15).",
)
@click.option("--log-level", help="DEBUG, INFO, WARNING or ERROR.")
@click.option(
    "--web.config.file", "web_config_file_path", help="Prometheus web-config file: TLS and basic auth."
)
def serve(broker_urls: tuple[str, ...], transport_option: tuple[str, ...], **options: Any) -> None:
    """Watch brokers and serve /metrics until stopped.

    \b
    Examples:
      python -m exporters serve --broker-url redis://127.0.0.1:6379/0 --port 9808
      CELERY_EXPORTER_BROKER_URL_FILE=/run/secrets/broker python -m exporters serve
      python -m exporters serve --broker-url shop=redis://a/0 --broker-url blog=redis://b/0
    """
    settings = load(broker_urls, transport_option, **options)
    logs.configure(settings.log_level, secrets=settings.secrets())
    stop = request_on_end()
    with Exporter(settings) as exporter:
        click.echo(f"serving on port {exporter.port}", err=True)
        stop.wait()


@exporters.command()
@broker_options
@click.option("--seconds", type=float, default=5.0, show_default=True, help="How long to listen.")
@JSON
@click.pass_context
def check(
    context: click.Context,
    broker_urls: tuple[str, ...],
    transport_option: tuple[str, ...],
    seconds: float,
    as_json: bool,
) -> None:
    """Check workers, queues and events, and what to fix.

    Connects and listens for a moment. Exit code 0 when all is well, 1 when something needs to be fixed.

    \b
    Examples:
      python -m exporters check --broker-url redis://127.0.0.1:6379/0
      python -m exporters check --seconds 30 --json
    """
    found = [
        _with(pipeline, lambda p: examine(p, seconds))
        for pipeline in pipelines(broker_urls, transport_option)
    ]
    if as_json:
        print_json([findings.as_json() for findings in found])
    else:
        for findings in found:
            print_findings(findings)
    context.exit(0 if all(findings.ok for findings in found) else 1)


@exporters.command()
@broker_options
@click.option("--watch", is_flag=True, help="Repeat until Ctrl-C.")
@click.option(
    "--interval", type=float, default=2.0, show_default=True, help="Seconds between looks with --watch."
)
@JSON
def queues(
    broker_urls: tuple[str, ...],
    transport_option: tuple[str, ...],
    watch: bool,
    interval: float,
    as_json: bool,
) -> None:
    """Show queue lengths, ages and consumers.

    \b
    Examples:
      python -m exporters queues --broker-url redis://127.0.0.1:6379/0
      python -m exporters queues --watch --interval 5
    """
    watched = pipelines(broker_urls, transport_option)
    try:
        if watch:
            _watch_queues(watched, interval)
        else:
            _print_queues(_look_all(watched), as_json=as_json)
    finally:
        for pipeline in watched:
            pipeline.stop()


@exporters.command()
@broker_options
@click.option(
    "--type",
    "kinds",
    multiple=True,
    metavar="TYPE",
    help="Only events of this type, e.g. task-failed. Repeatable.",
)
@click.option("--seconds", type=float, help="Stop after this number of seconds (default: at Ctrl-C).")
@JSON
def events(
    broker_urls: tuple[str, ...],
    transport_option: tuple[str, ...],
    kinds: tuple[str, ...],
    seconds: float | None,
    as_json: bool,
) -> None:
    """Print the event stream, one line per event.

    \b
    Examples:
      python -m exporters events --type task-failed --type task-retried
      python -m exporters events --json --seconds 60 > events.jsonl
    """

    over = threading.Event()

    def show(found: list[Any]) -> None:
        try:
            for event in found:
                if isinstance(event, dict) and (not kinds or event.get("type") in kinds):
                    click.echo(orjson.dumps(event) if as_json else event_line(event))
        except BrokenPipeError:
            # The reader has gone, as with head.
            over.set()

    watched = pipelines(broker_urls, transport_option)
    for pipeline in watched:
        pipeline.receiver.watch = show
        pipeline.reader.start()
    try:
        _follow(watched, over, seconds)
    finally:
        for pipeline in watched:
            pipeline.stop()


def _follow(watched: list[Pipeline], over: threading.Event, seconds: float | None) -> None:
    """Wait until it is over; a broker that is not reached in time is an error.

    Raises:
        OpsError: names the broker.
    """
    if over.wait(SUBSCRIBE_SECONDS if seconds is None else min(seconds, SUBSCRIBE_SECONDS)):
        return
    for pipeline in watched:
        if not pipeline.receiver.health.connected:
            raise OpsError(
                f"broker {pipeline.broker.shown}: not subscribed: {pipeline.receiver.health.error}",
                hint="check the URL, the password and that the broker runs",
            )
    over.wait(None if seconds is None else max(0.0, seconds - SUBSCRIBE_SECONDS))


def load(broker_urls: tuple[str, ...], transport_option: tuple[str, ...], **options: Any) -> ExporterSettings:
    """The settings from the environment and the given options.

    Raises:
        UsageError: something is missing or wrong.
    """
    try:
        transport = dict(parse_option(text) for text in transport_option) or None
    except ValueError as error:
        raise UsageError(
            f"--broker-transport-option: {error}", hint="for example global_keyprefix=shop:"
        ) from None
    settings = ExporterSettings.load(
        broker_url=" ".join(broker_urls) or None, broker_transport_options=transport, **options
    )
    settings.brokers()
    settings.buckets()
    return settings


def pipelines(broker_urls: tuple[str, ...], transport_option: tuple[str, ...]) -> list[Pipeline]:
    """A pipeline for each broker, not started. Only errors are logged: the command itself reports the rest."""
    settings = load(broker_urls, transport_option)
    logs.configure("ERROR", secrets=settings.secrets())
    return [Pipeline(broker, settings) for broker in settings.brokers()]


def _with(pipeline: Pipeline, work: Callable[[Pipeline], Findings]) -> Findings:
    try:
        return work(pipeline)
    finally:
        pipeline.stop()


# Output


def event_line(event: Mapping[str, Any]) -> str:
    """One event as a line for people."""
    parts = [f"{key}={event[key]}" for key in SHOWN if event.get(key) not in (None, 0, "")]
    heads = [str(event.get(key, "?")) for key in ("type", "hostname")]
    return plain(
        f"{_time(event.get('timestamp'))} {heads[0]:<17} {heads[1]} {event.get('uuid', '')} {' '.join(parts)}"
    )


def _time(stamp: Any) -> str:
    try:
        return datetime.fromtimestamp(stamp).strftime("%H:%M:%S.%f")[:-3]  # noqa: DTZ006 - the reader's own zone
    except (TypeError, ValueError, OverflowError, OSError):
        return "?"


def plain(text: str) -> str:
    """Untrusted text without control characters."""
    return "".join(char if char.isprintable() else "�" for char in text)


def shown(text: str) -> str:
    """Untrusted text for a console: no control characters, no markup."""
    return escape(plain(text))


def print_findings(findings: Findings) -> None:
    """Print what a check found."""
    console = stdout_console()
    state = "subscribed" if findings.subscribed else "not subscribed"
    console.print(
        f"[bold]{shown(findings.broker)}[/bold] {shown(findings.address)}: {state}, listened {findings.seconds:g} s"
    )
    if findings.workers:
        table = Table("worker", "up", "active", "processed", "pool", "queues")
        for worker in findings.workers:
            row = (
                plain(worker.node),
                "yes" if worker.up else "no",
                _shown(worker.active),
                _shown(worker.processed),
                _shown(worker.pool_size),
            )
            table_row(table, *row, "?" if worker.queues is None else plain(",".join(worker.queues)))
        console.print(table)
    if findings.queues:
        console.print(queue_table([(findings.broker, findings.queues)]))
    counted = ", ".join(f"{kind} {count}" for kind, count in sorted(findings.events.items())) or "none"
    console.print(f"events: {shown(counted)}; undecodable {findings.undecodable}", highlight=False)
    for problem in findings.problems:
        console.print(f"[red]Error:[/red] {shown(problem)}", highlight=False)
    for hint in findings.hints:
        console.print(f"[yellow]Try:[/yellow] {shown(hint)}", highlight=False)
    if findings.ok:
        console.print("[green]ok[/green]")


Seen = Sequence[tuple[str, list[QueueFacts]]]


def queue_table(seen: Seen) -> Table:
    """Queues as a table; the broker is named when there are several."""
    several = len(seen) > 1
    table = Table(*(["broker"] if several else []), "queue", "length", "unacked", "oldest", "consumers")
    for broker, facts in seen:
        for queue in facts:
            cells = (plain(queue.queue), str(queue.length), _shown(queue.unacked), _age(queue.oldest_seconds))
            table_row(table, *([plain(broker)] if several else []), *cells, _shown(queue.consumers))
    return table


def _shown(value: int | None) -> str:
    return "?" if value is None else str(value)


def _age(seconds: float | None) -> str:
    if seconds is None:
        return "?"
    return f"{seconds:.1f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _look_all(watched: list[Pipeline]) -> Seen:
    for pipeline in watched:
        look(pipeline)
    return [(pipeline.broker.name, queue_facts(pipeline)) for pipeline in watched]


def _print_queues(seen: Seen, *, as_json: bool) -> None:
    if as_json:
        print_json([{"broker": name, **queue.__dict__} for name, facts in seen for queue in facts])
    else:
        stdout_console().print(queue_table(seen))


def _watch_queues(watched: list[Pipeline], interval: float) -> None:
    with Live(queue_table([]), console=stdout_console(), auto_refresh=False) as live:
        while True:
            live.update(queue_table(_look_all(watched)), refresh=True)
            time.sleep(interval)
