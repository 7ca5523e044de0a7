"""``python -m backup keygen``."""

import os
from datetime import UTC, datetime
from pathlib import Path

import click

from backup.cli.common import json_option
from sidecar import OpsError, UsageError, cli


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@json_option
def keygen(file: Path, as_json: bool) -> None:
    """Create a key for encryption: the secret key goes into FILE, the public key to stdout.

    The file is in the format of age-keygen. Backups need only the public key; keep the file away from the server.

    \b
    Example:
      export BACKUP_AGE_RECIPIENTS=$(python -m backup keygen identity.txt)
    """
    import pyrage  # no other command without a store needs it

    identity = pyrage.x25519.Identity.generate()
    public = str(identity.to_public())
    text = f"# created: {datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}\n# public key: {public}\n{identity}\n"
    _write(file, text)
    if as_json:
        cli.print_json({"public_key": public, "file": str(file)})
        return
    cli.echo(public)
    cli.echo(
        f"{file} contains the secret key. Without it no one can restore: keep two copies, off this server",
        err=True,
    )


def _write(file: Path, text: str) -> None:
    """Create a file that only its owner can read; an existing key is never overwritten."""
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise UsageError(f"{file} already exists", hint="name a file that does not exist yet") from None
    except OSError as error:
        raise UsageError(
            f"{file} cannot be created: {error.strerror}", hint="name a file in an existing folder"
        ) from None
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as handle:
            handle.write(text)
            handle.flush()
            os.fsync(handle.fileno())
    except OSError as error:
        file.unlink(missing_ok=True)
        raise OpsError(f"{file} cannot be written: {error.strerror}", hint="free disk space") from None
