"""``./ops lock``: the lock files from pyproject.toml."""

import subprocess

import click

from sidecar import OpsError
from stack.paths import ROOT, VENV_BIN

OLDEST_PYTHON = "3.11"
# Lock file → extra: the images install only what they run.
LOCKS = {
    "dev": "dev",
    "demo": "demo",
    "node": "node",
    "uv": "installer",
    "app": "app",
    "exporters": "exporter",
    "backup": "backup",
}


@click.command()
@click.option("--upgrade", is_flag=True, help="Upgrade to the newest versions.")
def lock(*, upgrade: bool) -> None:
    """Update the lock files after a change of pyproject.toml.

    Locked versions stay unless they no longer fit. The files contain no registry address.
    """
    for name, extra in LOCKS.items():
        command = [
            str(VENV_BIN / "uv"),
            "pip",
            "compile",
            "--quiet",
            "--universal",
            "--python-version",
            OLDEST_PYTHON,
            "--generate-hashes",
            "--no-header",
            "--no-annotate",
            "--no-emit-index-url",
            "--extra",
            extra,
            "--output-file",
            f"locks/{name}.txt",
            *(["--upgrade"] if upgrade else []),
            "pyproject.toml",
        ]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise OpsError(
                f"locks/{name}.txt: {done.stderr.strip()[-600:]}", hint="relax the conflicting requirements"
            )
        click.echo(f"wrote locks/{name}.txt")
