"""``python -m backup``."""

from backup.cli import main

if __name__ == "__main__":
    main()
