"""``python -m backup serve``."""

import click

from backup.cli.common import load
from backup.service.daemon import serve as run_service


@click.command()
def serve() -> None:
    """Run the schedules and serve the metrics and the status page until stopped.

    \b
    Example:
      BACKUP_SCHEDULE="0 2 * * *" python -m backup serve
    """
    run_service(load(service=True))
