"""``python -m exporters``."""

import sys

try:
    from exporters.cli import exporters
    from sidecar.cli import main
except KeyboardInterrupt:
    sys.exit(130)

if __name__ == "__main__":
    main(exporters, prog="python -m exporters")
