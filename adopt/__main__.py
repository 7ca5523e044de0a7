"""``python -m adopt``."""

import sys

try:
    from adopt.cli import init
    from sidecar.cli import main
except KeyboardInterrupt:
    sys.exit(130)

if __name__ == "__main__":
    main(init, prog="python -m adopt")
