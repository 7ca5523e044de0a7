"""``python -m backup``."""

import sys

from sidecar import signals

if __name__ == "__main__":
    # Before anything else: whoever ends us, at whatever moment, gets what is half done undone, and once is enough.
    signals.end_orderly()
    try:
        from backup.cli import main
    except (KeyboardInterrupt, signals.Ended):
        sys.exit(130)
    main()
