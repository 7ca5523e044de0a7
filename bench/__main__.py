"""``python -m bench``, also ``./ops bench``."""

import sys

try:
    import click

    from bench.backup import backup
    from bench.exporter import exporter
    from bench.growth import growth
    from bench.pitr import pitr
    from bench.restore import restore
    from sidecar import cli
except KeyboardInterrupt:
    sys.exit(130)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def bench() -> None:
    """Run the benchmarks, side by side with peers. No result makes a command fail.

    \b
    Examples:
      ./ops bench backup --size 300      compare the backup with the usual methods
      ./ops bench growth --quick         show how cost grows
    """


bench.add_command(backup)
bench.add_command(exporter)
bench.add_command(growth)
bench.add_command(pitr)
bench.add_command(restore)

if __name__ == "__main__":
    cli.main(bench, prog="python -m bench")
