"""``python -m adopt``."""

from adopt.cli import init
from sidecar.cli import main

if __name__ == "__main__":
    main(init, prog="python -m adopt")
