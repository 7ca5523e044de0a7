"""The commands."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import yaml

from sidecar import OpsError, UsageError
from sidecar.humanize import counted
from stack.deploy import digests as digest_options
from stack.deploy.annotate import annotate, annotate_own
from stack.deploy.compose import Rollout
from stack.deploy.history import History
from stack.deploy.kubernetes import KubeRollout
from stack.deploy.manifests import manifests
from stack.deploy.pin import pin
from stack.deploy.runner import Runner
from stack.deploy.server_settings import PATCH, server_settings
from stack.doctor import envfile
from stack.paths import ROOT

DRY_RUN = click.option("--dry-run", is_flag=True, help="Print the commands without running them.")
GRAFANA = click.option(
    "--grafana", default="", metavar="URL", help="Grafana that gets an annotation of the deployment."
)
OWN_GRAFANA = click.option(
    "--grafana",
    default="",
    metavar="URL",
    help="Grafana that gets an annotation of the deployment, instead of this host's.",
)
HEALTH = click.option(
    "--url",
    default="",
    help="Health page to check through the edge, such as https://api.posthub.work/health/.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def deploy() -> None:
    """Deploy to the VPS or to Kubernetes, or roll back.

    \b
    Examples:
      ./ops deploy vps --tag 3f2a91c
      ./ops deploy vps --build --tag local
      ./ops deploy rollback
      ./ops deploy kubernetes --overlay production --tag 3f2a91c
    """


@deploy.command()
@click.option("--tag", help="Tag of the images; the checkout's commit by default.")
@click.option("--images", default="", help="Registry of the images, such as ghcr.io/posthub; saved in .env.")
@click.option("--build", is_flag=True, help="Build the images here instead of pulling them.")
@digest_options.OPTION
@HEALTH
@OWN_GRAFANA
@DRY_RUN
def vps(
    *,
    tag: str | None,
    images: str,
    build: bool,
    digests: tuple[str, ...],
    url: str,
    grafana: str,
    dry_run: bool,
) -> None:
    """Deploy to this server, one service after the other.

    Pulls the images, backs up and applies migrations if there are any, restarts the services one by one, and checks. A
    failure rolls back.
    """
    wanted = digest_options.parse(digests)
    runner = Runner(ROOT, dry=dry_run)
    chosen = tag or _commit(runner)
    with _marked(runner, grafana, f"PostHub {chosen}"):
        Rollout(ROOT, runner, _say(runner), chosen, url, images, build=build, digests=wanted).deploy()


@deploy.command()
@HEALTH
@OWN_GRAFANA
@DRY_RUN
def rollback(*, url: str, grafana: str, dry_run: bool) -> None:
    """Run the previous tag again, without migrations."""
    previous = History(ROOT).previous()
    if previous is None:
        raise OpsError("no earlier deployment is known on this host", hint="./ops deploy vps --tag TAG")
    runner = Runner(ROOT, dry=dry_run)
    with _marked(runner, grafana, f"PostHub back to {previous}"):
        Rollout(ROOT, runner, _say(runner), previous, url).roll_back()


@deploy.command()
@click.option("--overlay", default="production", show_default=True, help="Folder below k8s/overlays.")
@click.option("--registry", default="ghcr.io/posthub", show_default=True, help="Registry of the images.")
@click.option("--tag", help="Tag of the images; the checkout's commit by default.")
@click.option("--undo", is_flag=True, help="Return to the tag that was deployed before instead.")
@digest_options.OPTION
@GRAFANA
@DRY_RUN
def kubernetes(
    *,
    overlay: str,
    registry: str,
    tag: str | None,
    undo: bool,
    digests: tuple[str, ...],
    grafana: str,
    dry_run: bool,
) -> None:
    """Deploy to a cluster, and wait until it is ready.

    Applies migrations first. A failure returns to the previous revision.
    """
    if not (ROOT / "k8s" / "overlays" / overlay).is_dir():
        names = sorted(path.name for path in (ROOT / "k8s" / "overlays").iterdir())
        raise UsageError(f"overlay {overlay} does not exist", hint=", ".join(names))
    runner = Runner(ROOT, dry=dry_run)
    chosen = tag or _commit(runner)
    wanted = digest_options.parse(digests)
    rollout = KubeRollout(ROOT, runner, _say(runner), chosen, registry, overlay, digests=wanted)
    with _marked(runner, grafana, f"PostHub {'back' if undo else chosen} ({overlay})", own=False):
        if undo:
            rollout.undo()
        else:
            rollout.deploy()


@deploy.command("manifests")
def write_manifests() -> None:
    """Write the generated Kubernetes manifests."""
    for path, text in manifests().items():
        _write(path, text)


@deploy.command("pin")
@DRY_RUN
def write_digests(*, dry_run: bool) -> None:
    """Write the digest of each third-party image next to its tag.

    It queries the registries, so run it where they can be reached. Afterwards, Dependabot updates both together.
    """
    count, changed = pin(ROOT, Runner(ROOT, dry=dry_run))
    for path in changed:
        click.echo(f"{'would write' if dry_run else 'wrote'} {path.relative_to(ROOT)}")
    click.echo(f"{counted(count, 'image')} pinned")


@deploy.command("settings")
@click.option("--overlay", default="production", show_default=True, help="Folder below k8s/overlays.")
@click.option("--env-file", default=".env.production", show_default=True, help="The server's settings.")
def write_settings(*, overlay: str, env_file: str) -> None:
    """Write the server's settings into an overlay, without secrets."""
    target = ROOT / "k8s" / "overlays" / overlay / PATCH
    if not target.exists():
        raise UsageError(f"the overlay {overlay} takes no settings", hint=f"it needs the patch {PATCH}")
    compose = yaml.safe_load((ROOT / "docker-compose.prod.yml").read_text(encoding="utf-8"))
    found = server_settings(envfile.read(ROOT / env_file), compose["x-no-secrets"])
    _write(target, found.patch())
    for name, reason in found.left.items():
        click.echo(f"  {name} is left out: {reason} decides")


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    click.echo(f"wrote {path.relative_to(ROOT)}")


def _commit(runner: Runner) -> str:
    """The checkout's commit, which the images are tagged with."""
    done = runner.query("git", "rev-parse", "HEAD")
    if done.code != 0 or not done.output.strip():
        raise UsageError("this is not a git checkout", hint="--tag TAG")
    return done.output.strip()


def _say(runner: Runner) -> Callable[[str], None]:
    """Prints each step; silent in a dry run."""
    return (lambda _: None) if runner.dry else click.echo


@contextmanager
def _marked(runner: Runner, grafana: str, text: str, *, own: bool = True) -> Iterator[None]:
    """Annotate the graphs with the deployment, or with its failure."""
    try:
        yield
    except OpsError:
        _mark(runner, grafana, f"{text} failed", own=own)
        raise
    _mark(runner, grafana, text, own=own)


def _mark(runner: Runner, grafana: str, text: str, *, own: bool) -> None:
    if runner.dry:
        return
    problem = None
    if grafana:
        problem = annotate(grafana, text)
    elif own:
        problem = annotate_own(ROOT, runner, text)
    if problem:
        click.echo(f"! no annotation in Grafana: {problem}", err=True)
