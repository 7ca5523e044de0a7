"""``./ops lock``: the lock files from pyproject.toml."""

import subprocess

import click

from sidecar import OpsError
from stack.paths import ROOT, VENV_BIN

OLDEST_PYTHON = "3.11"
# Lock file → extra: the images install only what they run.
LOCKS = {"dev": "dev", "app": "app", "exporters": "exporters", "backup": "backup"}


@click.command()
@click.option("--upgrade", is_flag=True, help="Take the newest versions instead of the locked ones.")
def lock(*, upgrade: bool) -> None:
    """Resolve the dependencies again after a change of pyproject.toml.

    Versions that are locked stay unless they no longer fit. No registry address is written.
    """
    for name, extra in LOCKS.items():
        command = [
            str(VENV_BIN / "uv"), "pip", "compile", "--quiet", "--universal", "--python-version", OLDEST_PYTHON,
            "--generate-hashes", "--no-header", "--no-annotate", "--no-emit-index-url",
            "--extra", extra, "--output-file", f"locks/{name}.txt", *(["--upgrade"] if upgrade else []),
            "pyproject.toml",
        ]  # fmt: skip
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise OpsError(
                f"locks/{name}.txt: {done.stderr.strip()[-600:]}", hint="loosen what contradicts itself"
            )
        click.echo(f"wrote locks/{name}.txt")
