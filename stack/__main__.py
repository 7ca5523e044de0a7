"""``python -m stack``: what ``./ops`` runs."""

import sys

try:
    from sidecar.cli import main
    from stack.cli import ops
except KeyboardInterrupt:
    sys.exit(130)

main(ops, prog="./ops")
