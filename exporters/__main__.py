"""``python -m exporters``."""

from exporters.cli import exporters
from sidecar.cli import main

if __name__ == "__main__":
    main(exporters, prog="python -m exporters")
