"""``python -m backup download``."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from backup.catalogue.history import Entry
from backup.cli import bars
from backup.cli.common import database_option, find, json_option, load, note_anomalies, print_step
from backup.load.plain import write_plain
from backup.progress import Reporter
from sidecar import cli
from sidecar.humanize import size


@click.command()
@click.argument("backup_id", metavar="[ID|latest]", default="latest")
@click.option(
    "--to",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=".",
    show_default="the current folder",
    help="An existing folder for the files.",
)
@database_option
@json_option
def download(backup_id: str, folder: Path, database: str | None, as_json: bool) -> None:
    """Write a backup as plain files for pg_restore or Redis: checked, decrypted and decompressed.

    The files are NAME-ID.dump and NAME-ID.roles.sql, or NAME-ID.rdb. They are NOT encrypted; only you can read them.

    \b
    Example:
      python -m backup download ab12cd --to /mnt/rescue
    """
    wiring = load(store_only=True)
    entry = find(wiring, database, backup_id, verified=True)
    note_anomalies(entry)
    with _display(entry) as reporter:
        files = write_plain(wiring, entry, folder, reporter)
    if as_json:
        cli.print_json({"id": entry.id, "files": {role: str(path) for role, path in files.items()}})
        return
    for path in files.values():
        cli.echo(f"{path}  {size(path.stat().st_size)}, not encrypted")
    if "archive" in files:
        cli.echo(f"next: pg_restore --list {files['archive']}")


@contextmanager
def _display(entry: Entry) -> Iterator[Reporter]:
    with cli.progress(*bars.transfer()) as display:
        task = display.add_task("download", total=entry.manifest.stored_bytes)
        yield Reporter(print_step, lambda count: display.advance(task, count))
