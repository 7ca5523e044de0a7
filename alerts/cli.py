"""``./ops alerts``."""

import getpass
import os
import signal
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import click

from alerts import alertmanager, checks, programs, rules, table
from alerts import render as rendering
from alerts.durations import Duration
from alerts.paths import ROOT, TABLE
from alerts.programs import Outcome
from alerts.receivers import SECRETS_FOLDER, ReceiverSettings, with_folder
from alerts.sample import annotations_of, labels_of
from sidecar import OpsError, UsageError, logs

OUTPUT_FILE = click.Path(path_type=Path, dir_okay=False)
URL = click.option(
    "--url", envvar="ALERTMANAGER_URL", help="Alertmanager's address; found by itself if it runs here."
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Check, test, fire and silence alerts.

    \b
    Examples:
      ./ops alerts check                       everything that must be true of rules, routes and pages
      ./ops alerts test celery                 unit tests of one file of rules
      ./ops alerts show RedisDown              the page of an alert, here in the terminal
      ./ops alerts fire RedisDown              send it as a drill, and see to whom it goes
      ./ops alerts canary                      send a test message, and see where it arrives
      ./ops alerts silence add RedisDown --for 2h --comment "moving Redis"
    """


@main.command()
def check() -> None:
    """Check rules, routes, messages, pages and the table."""
    found = checks.problems()
    _report(
        [
            programs.promtool("check", "config", "prometheus.yml", what="prometheus.yml and rules"),
            programs.amtool("check-config", "alertmanager.yml", what="alertmanager.yml and templates"),
            Outcome("every alert complete, tested both ways, with a page", not found, "\n".join(found)),
        ]
    )


@main.command("list")
@click.argument("text", default="")
def list_alerts(text: str) -> None:
    """List the alerts, or those whose name contains TEXT."""
    for alert in rules.alerts():
        if text.lower() in alert.name.lower():
            click.echo(f"{alert.severity:9}{alert.component:11}{alert.name}")


@main.command()
@click.argument("name")
def show(name: str) -> None:
    """Print the page of an alert."""
    path = ROOT / checks.link_of(rules.alert(name))
    if not path.is_file():
        raise OpsError(f"{name} has no page yet", hint="./ops alerts check")
    click.echo_via_pager(path.read_text(encoding="utf-8"))


@main.command()
def docs() -> None:
    """Renew the table in docs/alerts.md."""
    TABLE.write_text(table.page(), encoding="utf-8")
    click.echo(f"wrote {TABLE.relative_to(ROOT)}")


@main.command()
@click.argument("name")
@click.option(
    "--label", "given", multiple=True, metavar="NAME=VALUE", help="A label of the alert; repeatable."
)
@click.option(
    "--for", "lasts", type=Duration(), default="5m", show_default=True, help="Resolves by itself after this."
)
@URL
def fire(name: str, given: tuple[str, ...], lasts: timedelta, url: str | None) -> None:
    """Send an alert as a drill: as it would look, to whom it would go.

    It carries the label drill=true, says DRILL in its title, silences nothing and resolves by itself.
    """
    alert = rules.alert(name)
    labels = labels_of(alert, {**_pairs(given), "drill": "true"})
    server = alertmanager.find(url)
    server.post_alert(labels, annotations_of(alert, labels), lasts=lasts)
    click.echo(f"sent {name} ({alert.severity}) to {server.url}; it resolves by itself")
    receivers, held_back = server.fate_of(labels)
    click.echo(f"goes to: {', '.join(receivers)}")
    for reason in held_back:
        click.echo(f"Warning: not sent, {reason}", err=True)


@main.command()
@click.option(
    "--url", envvar="ALERTS_WATCH_URL", help="The watch's address; found by itself if it runs here."
)
@click.option(
    "--for", "patience", type=Duration(), default="1m", show_default=True, help="How long to look for it."
)
def canary(url: str | None, patience: timedelta) -> None:
    """Have the watch send a test message now, and see where it arrives."""
    from alerts.watch.asking import ask

    lost = []
    for seen in ask(url).follow(patience=patience.total_seconds()):
        if seen.seconds is None:
            lost.append(seen.receiver)
        else:
            click.echo(f"{seen.receiver:10}arrived after {seen.seconds:.0f} s ({seen.evidence})")
    if lost:
        raise OpsError(
            f"not seen at {', '.join(lost)}", hint="./ops alerts show CanaryMissing; the watch's log says why"
        )


@main.group()
def silence() -> None:
    """Silence alerts during work, list silences, end them."""


@silence.command("add")
@click.argument("matchers", nargs=-1, required=True)
@click.option("--for", "lasts", type=Duration(), required=True, help="How long, such as 30m or 2h.")
@click.option("--comment", required=True, help="Why; whoever is on call reads it.")
@click.option("--by", default=getpass.getuser, help="Who; the user name by default.")
@URL
def add_silence(matchers: tuple[str, ...], lasts: timedelta, comment: str, by: str, url: str | None) -> None:
    """Silence what matches all of MATCHERS: an alert's name, name=value or name=~regex."""
    for text in matchers:
        wanted = alertmanager.matcher(text)
        if wanted["name"] == "alertname" and wanted["isEqual"] and not wanted["isRegex"]:
            rules.alert(wanted["value"])
    click.echo(alertmanager.find(url).silence(matchers, lasts=lasts, by=by, comment=comment))


@silence.command("list")
@URL
def list_silences(url: str | None) -> None:
    """List the silences that are in force or will be."""
    for one in alertmanager.find(url).silences():
        click.echo(
            f"{one.id}  {one.state}  until {one.ends}  {' '.join(one.matchers)}  {one.by}: {one.comment}"
        )


@silence.command("end")
@click.argument("ids", nargs=-1, required=True)
@URL
def end_silence(ids: tuple[str, ...], url: str | None) -> None:
    """End silences by their ids."""
    server = alertmanager.find(url)
    for one in ids:
        server.expire(one)


@main.command()
@click.argument("component", nargs=-1)
def test(component: tuple[str, ...]) -> None:
    """Run the unit tests of the rules, all or those of some files (celery, backup …)."""
    stems = sorted(path.stem for path in programs.rule_tests())
    unknown = [name for name in component if not any(stem.startswith(name) for stem in stems)]
    if unknown:
        raise UsageError(f"no tests for {' '.join(unknown)}", hint=", ".join(stems))
    paths = [path for path in programs.rule_tests() if not component or path.stem.startswith(component)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        _report(pool.map(programs.run_rule_test, paths))


@main.command()
@click.option("--output", required=True, type=OUTPUT_FILE, help="Where Alertmanager reads its configuration.")
@click.option(
    "--secrets",
    default=SECRETS_FOLDER,
    show_default=True,
    type=click.Path(path_type=Path),
    help="Folder of secrets under the variables' lower-case names.",
)
def render(output: Path, secrets: Path) -> None:
    """Make Alertmanager's configuration with the receivers whose secret is given."""
    environ = with_folder(os.environ, secrets)
    settings = ReceiverSettings.load(environ)
    document = rendering.configuration(settings, rendering.read_by_alertmanager(environ))
    rendering.write(output, document)
    on, off = rendering.on_and_off(settings)
    click.echo(f"on: {', '.join(on) or 'nothing'}")
    for name, switch in off:
        click.echo(f"off: {name} ({switch} is not set)")
    if not set(on) - {"dead-man's switch"}:
        click.echo("Warning: no receiver is on, so alerts reach nobody", err=True)


@main.command()
def watch() -> None:
    """Feed the dead-man's switch, and see whether test messages arrive. Runs until told to stop."""
    from alerts.watch.service import Watch
    from alerts.watch.settings import WatchSettings

    environ = with_folder(os.environ)
    settings, receivers = WatchSettings.load(environ), ReceiverSettings.load(environ)
    logs.configure(settings.log_level, secrets=[*settings.secrets(), *receivers.secrets()])
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
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
        raise OpsError(f"failed: {', '.join(failed)}", hint="correct what is named above")


def _pairs(texts: Iterable[str]) -> dict[str, str]:
    pairs = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not sign or not name:
            raise UsageError(
                f"--label {text} is no NAME=VALUE", hint="for example --label queue_name=ai_jobs"
            )
        pairs[name] = value
    return pairs
