"""``python -m alerts``, also reached as ``./ops alerts``."""

import sys

try:
    from alerts.cli import main
    from sidecar.cli import main as run
except KeyboardInterrupt:
    sys.exit(130)

if __name__ == "__main__":
    run(main, prog="python -m alerts")
