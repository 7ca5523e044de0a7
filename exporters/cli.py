"""``python -m exporters``: the commands."""

import threading
from collections.abc import Callable
from typing import Any

import click
import orjson

from exporters.pipeline import Pipeline
from exporters.report import Findings, QueueFacts, examine, queue_facts, refresh
from exporters.service import Exporter
from exporters.settings import ExporterSettings, parse_option
from sidecar import logs
from sidecar.cli import print_json
from sidecar.errors import OpsError, UsageError
from sidecar.signals import request_on_end
from sidecar.version import __version__

# Seconds within which a running broker has answered.
SUBSCRIBE_SECONDS = 5.0


def broker_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that name the broker."""
    url = click.option(
        "--broker-url",
        "broker_urls",
        multiple=True,
        metavar="[NAME=]URL",
        help="The broker, as Celery's broker_url; repeat it for further brokers. Prefer CELERY_EXPORTER_BROKER_URL "
        "or CELERY_EXPORTER_BROKER_URL_FILE if it contains a password.",
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
@click.version_option(__version__)
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
@click.option("-Q", "--queues", help="Queues to show even before anything names them, such as default,mail.")
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
    logs.configure(settings.log_level, secrets=settings.secrets(), form=settings.log_format)
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
    """Check workers, queues and events, and report what to fix.

    Connects and listens for a moment. Exit code 0 when all is well, 1 when something needs to be fixed.

    \b
    Examples:
      python -m exporters check --broker-url redis://127.0.0.1:6379/0
      python -m exporters check --seconds 30 --json
    """
    from exporters.terminal import print_findings

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
    "--interval", type=float, default=2.0, show_default=True, help="Seconds between updates with --watch."
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
    from exporters.terminal import print_queues, watch_queues

    watched = pipelines(broker_urls, transport_option)
    try:
        if watch:
            watch_queues(lambda: _look_all(watched), interval)
        elif as_json:
            print_json(
                [{"broker": name, **queue.__dict__} for name, facts in _look_all(watched) for queue in facts]
            )
        else:
            print_queues(_look_all(watched))
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

    from exporters.terminal import event_line

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
    """Wait until the time is over; a broker that is not reached in time is an error.

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
        UsageError: something is missing or invalid.
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
    """A pipeline for each broker, not started. Only errors are logged, because the command itself reports the rest."""
    settings = load(broker_urls, transport_option)
    logs.configure("ERROR", secrets=settings.secrets())
    return [Pipeline(broker, settings) for broker in settings.brokers()]


def _with(pipeline: Pipeline, work: Callable[[Pipeline], Findings]) -> Findings:
    try:
        return work(pipeline)
    finally:
        pipeline.stop()


def _look_all(watched: list[Pipeline]) -> list[tuple[str, list[QueueFacts]]]:
    for pipeline in watched:
        refresh(pipeline)
    return [(pipeline.broker.name, queue_facts(pipeline)) for pipeline in watched]
