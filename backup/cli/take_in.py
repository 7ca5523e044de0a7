"""``python -m backup import``."""

from pathlib import Path

import click

from backup.cli.common import json_option, load
from backup.cli.run import content_of, facts_of
from backup.foreign import take_in as store_archive
from backup.targets import folder_name
from sidecar import cli


@click.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--as", "name", required=True, metavar="NAME", help="Name of its database in the store.")
@json_option
def take_in(file: Path, name: str, as_json: bool) -> None:
    """Store a dump that was made elsewhere, in any format of pg_dump, to verify and restore it like a backup.

    An archive in the custom format is stored as it is. SQL, tar and folders are loaded into a throwaway server first, and
    a dump of that is stored.

    \b
    Examples:
      python -m backup import old-shop.sql --as old-shop
      python -m backup import old-shop.dump --as old-shop
      python -m backup verify latest -d old-shop
      python -m backup restore latest -d old-shop --into old_shop
    """
    wiring = load(store_only=True)
    manifest = store_archive(wiring, folder_name(name, "--as"), file)
    if as_json:
        cli.print_json(facts_of(manifest))
        return
    cli.echo(f"{manifest.id}  {name}: {content_of(manifest)}")
    for note in manifest.notes:
        cli.echo(f"  note: {note}")
    cli.echo(f"next: python -m backup verify latest -d {name}")
