"""``python -m stack.programs``: fetches what the demo runs. Standard library only: the first start runs it in the background."""

import sys

from sidecar import OpsError
from stack.programs.kits import EXPORTERS, SERVERS
from stack.programs.locate import fetch


def main() -> int:
    try:
        fetch([*SERVERS, *EXPORTERS.values()])
    except OpsError as error:
        # Not the end: whatever needs a program fetches it, and reports the error then.
        print(f"Error: {error.message}\nTry: {error.hint}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
