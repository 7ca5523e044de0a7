"""``python -m backup``."""

import sys

try:
    from sidecar import signals
except KeyboardInterrupt:
    sys.exit(130)

if __name__ == "__main__":
    # Before anything else, so that a signal at any moment leads to a clean-up, which runs only once.
    signals.end_orderly()
    try:
        from backup.cli import main
    except (KeyboardInterrupt, signals.Ended):
        sys.exit(130)
    main()
