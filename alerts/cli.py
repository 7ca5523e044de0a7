"""``./ops alerts``."""

import functools
import getpass
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar, cast

import click

from alerts import alertmanager, checks, docs_table, promtool_tests, rules
from alerts import render as rendering
from alerts.durations import Duration
from alerts.example import annotations_of, labels_of
from alerts.paths import ALERTMANAGER, ROOT, TABLE
from alerts.programs import Outcome, Programs, on_path
from alerts.receivers import SECRETS_FOLDER, ReceiverSettings, with_folder
from sidecar import OpsError, UsageError, logs
from sidecar.signals import request_on_end
from sidecar.version import __version__

OUTPUT_FILE = click.Path(path_type=Path, dir_okay=False)
Command = TypeVar("Command", bound=Callable[..., Any])
URL = click.option(
    "--url", envvar="ALERTMANAGER_URL", help="Alertmanager's address; by default the one on this machine."
)


def _with_programs(command: Command) -> Command:
    """Pass :class:`Programs` with the finder of ``./ops`` to a command, or with one that looks on PATH."""

    @click.pass_context
    @functools.wraps(command)
    def run(context: click.Context, /, *args: Any, **kwargs: Any) -> Any:
        return command(Programs(context.obj or on_path), *args, **kwargs)

    return cast("Command", run)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """Check, test, fire and silence alerts.

    \b
    Examples:
      ./ops alerts check                       check rules, routes, templates and runbooks
      ./ops alerts test celery                 run the unit tests of one rule file
      ./ops alerts show RedisDown              print the runbook of an alert
      ./ops alerts fire RedisDown              send it as a drill and list its receivers
      ./ops alerts canary                      send a test message and report where it arrives
      ./ops alerts silence add RedisDown --for 2h --comment "moving Redis"
    """


@main.command()
@_with_programs
def check(programs: Programs) -> None:
    """Check rules, routes, templates and runbooks."""
    found = checks.problems()
    _report(
        [
            programs.promtool("check", "config", "prometheus.yml", what="prometheus.yml and rules"),
            programs.amtool("check-config", "alertmanager.yml", what="alertmanager.yml and templates"),
            Outcome("labels, links, runbooks and test cases of every alert", not found, "\n".join(found)),
        ]
    )


@main.command("list")
@click.argument("text", default="")
def list_alerts(text: str) -> None:
    """List the alerts whose name contains TEXT (default: all)."""
    for alert in rules.alerts():
        if text.lower() in alert.name.lower():
            click.echo(f"{alert.severity:9}{alert.component:11}{alert.name}")


@main.command()
@click.argument("name")
def show(name: str) -> None:
    """Print the runbook of an alert."""
    path = ROOT / checks.runbook_of(rules.alert(name))
    if not path.is_file():
        raise OpsError(f"{name} has no runbook", hint="./ops alerts check")
    click.echo_via_pager(path.read_text(encoding="utf-8"))


@main.command()
def docs() -> None:
    """Regenerate the tables in docs/alerts.md."""
    if not TABLE.is_file():
        raise UsageError(
            "docs/alerts.md exists only in a checkout", hint="run it in a checkout: ./ops alerts docs"
        )
    TABLE.write_text(docs_table.page(), encoding="utf-8")
    click.echo(f"wrote {TABLE.relative_to(ROOT)}")


@main.command()
@click.argument("name")
@click.option(
    "--label", "given", multiple=True, metavar="NAME=VALUE", help="Label to add or override; repeatable."
)
@click.option(
    "--for", "duration", type=Duration(), default="5m", show_default=True, help="Time until it resolves."
)
@URL
def fire(name: str, given: tuple[str, ...], duration: timedelta, url: str | None) -> None:
    """Send an alert as a drill and list its receivers.

    The drill has the label drill=true and DRILL in its title, inhibits nothing, and resolves automatically.
    """
    alert = rules.alert(name)
    labels = labels_of(alert, {**_pairs(given), "drill": "true"})
    server = alertmanager.find(url)
    server.post_alert(labels, annotations_of(alert, labels), duration=duration)
    click.echo(f"sent {name} ({alert.severity}) to {server.url}; it resolves in {duration}")
    receivers, suppressed = server.fate_of(labels)
    click.echo(f"receivers: {', '.join(receivers)}")
    for reason in suppressed:
        click.echo(f"Warning: not sent: {reason}", err=True)


@main.command()
@click.option(
    "--url", envvar="ALERTS_WATCH_URL", help="Address of the watch; by default the one on this machine."
)
@click.option(
    "--for", "patience", type=Duration(), default="1m", show_default=True, help="How long to wait for it."
)
def canary(url: str | None, patience: timedelta) -> None:
    """Send a test message and report where it arrives."""
    from alerts.watch.client import send

    lost = []
    for seen in send(url).follow(patience=patience.total_seconds()):
        if seen.seconds is None:
            lost.append(seen.receiver)
        else:
            click.echo(f"{seen.receiver:10}arrived after {seen.seconds:.0f} s ({seen.evidence})")
    if lost:
        raise OpsError(
            f"the test message did not arrive at {', '.join(lost)}",
            hint="./ops alerts show CanaryMissing; the watch's log has the reason",
        )


@main.group()
def silence() -> None:
    """Add, list and end silences."""


@silence.command("add")
@click.argument("matchers", nargs=-1, required=True)
@click.option("--for", "duration", type=Duration(), required=True, help="How long, such as 30m or 2h.")
@click.option("--comment", required=True, help="Reason, for the person on call.")
@click.option("--by", default=getpass.getuser, help="Author; by default the user name.")
@URL
def add_silence(
    matchers: tuple[str, ...], duration: timedelta, comment: str, by: str, url: str | None
) -> None:
    """Silence alerts that match all MATCHERS.

    A matcher is an alert's name, name=value, name!=value, name=~regex or name!~regex.
    """
    for text in matchers:
        wanted = alertmanager.matcher(text)
        if wanted["name"] == "alertname" and wanted["isEqual"] and not wanted["isRegex"]:
            rules.alert(wanted["value"])
    click.echo(alertmanager.find(url).silence(matchers, duration=duration, by=by, comment=comment))


@silence.command("list")
@URL
def list_silences(url: str | None) -> None:
    """List active and pending silences."""
    for silence in alertmanager.find(url).silences():
        click.echo(
            f"{silence.id}  {silence.state}  until {silence.ends}  {' '.join(silence.matchers)}  {silence.by}: {silence.comment}"
        )


@silence.command("end")
@click.argument("ids", nargs=-1, required=True)
@URL
def end_silence(ids: tuple[str, ...], url: str | None) -> None:
    """End silences by ID. If one cannot be ended, the others still are."""
    server = alertmanager.find(url)
    failures = []
    for silence_id in ids:
        try:
            server.expire(silence_id)
        except OpsError as error:
            failures.append(error)
    if failures:
        raise failures[0]


@main.command()
@click.argument("component", nargs=-1)
@_with_programs
def test(programs: Programs, component: tuple[str, ...]) -> None:
    """Run the unit tests of the rules.

    COMPONENT is the start of a test file's name, such as celery or backup; by default all files run.
    """
    stems = sorted(path.stem for path in promtool_tests.files())
    unknown = [name for name in component if not any(stem.startswith(name) for stem in stems)]
    if unknown:
        raise UsageError(f"no tests for {' '.join(unknown)}", hint=", ".join(stems))
    paths = [path for path in promtool_tests.files() if not component or path.stem.startswith(component)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        _report(pool.map(programs.run_rule_test, paths))


@main.command()
@click.option("--output", required=True, type=OUTPUT_FILE, help="File that Alertmanager reads.")
@click.option(
    "--secrets",
    default=SECRETS_FOLDER,
    show_default=True,
    type=click.Path(path_type=Path),
    help="Folder with secret files, named after the variables in lower case.",
)
@click.option(
    "--from",
    "source",
    default=ALERTMANAGER,
    show_default="the one of this package",
    type=click.Path(path_type=Path),
    help="The configuration with all receivers, such as the one that ops-init wrote.",
)
def render(output: Path, secrets: Path, source: Path) -> None:
    """Render Alertmanager's configuration.

    A receiver is included if its secret is set.
    """
    environ = with_folder(os.environ, secrets)
    settings = ReceiverSettings.load(environ)
    document = rendering.configuration(settings, rendering.read_by_alertmanager(environ), source)
    rendering.write(output, document, source.parent / "templates")
    on, off = rendering.on_and_off(settings)
    click.echo(f"on: {', '.join(on) or 'nothing'}")
    for name, switch in off:
        click.echo(f"off: {name} ({switch} is not set)")
    if not set(on) - {"dead man's switch"}:
        click.echo("Warning: no receiver is enabled, so no one is notified", err=True)


@main.command()
def watch() -> None:
    """Run the service that checks whether notifications get through.

    It pings the dead man's switch, sends test messages, and reports whether they arrive.
    """
    from alerts.watch.service import Watch
    from alerts.watch.settings import WatchSettings

    environ = with_folder(os.environ)
    settings, receivers = WatchSettings.load(environ), ReceiverSettings.load(environ)
    secrets = [*settings.secrets(), *receivers.secrets()]
    logs.configure(settings.log_level, secrets=secrets, form=settings.log_format)
    stopped = request_on_end()
    with Watch(settings, receivers) as running:
        click.echo(f"listening on {settings.host}:{running.port}", err=True)
        stopped.wait()


def _report(outcomes: Iterable[Outcome]) -> None:
    failed = []
    for outcome in outcomes:
        click.echo(f"{'ok' if outcome.ok else 'FAILED':8}{outcome.what}")
        if not outcome.ok:
            failed.append(outcome.what)
            click.echo(outcome.output)
    if failed:
        raise OpsError(f"failed: {', '.join(failed)}", hint="fix what is listed above")


def _pairs(texts: Iterable[str]) -> dict[str, str]:
    pairs = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not sign or not name:
            raise UsageError(
                f"--label {text} is not NAME=VALUE", hint="for example --label queue_name=ai_jobs"
            )
        pairs[name] = value
    return pairs
