#!/usr/bin/env python
"""Django's command line. Configuration mistakes are reported in two lines instead of a traceback."""

import os
import sys


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings.development")
    import django
    from django.core.management import execute_from_command_line

    from config.startup import await_database, require_settings

    require_settings()
    if sys.argv[1:2] == ["migrate"]:
        # Loaded while the database starts, which takes longest when it is made.
        django.setup()
        await_database(seconds=120)
    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
