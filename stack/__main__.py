"""``python -m stack``: what ``./ops`` runs."""

from sidecar.cli import main
from stack.cli import ops

main(ops, prog="./ops")
