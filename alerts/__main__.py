"""``python -m alerts``, also reached as ``./ops alerts``."""

from alerts.cli import main
from sidecar.cli import main as run

if __name__ == "__main__":
    run(main, prog="python -m alerts")
