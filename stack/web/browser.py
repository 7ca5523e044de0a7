"""The browser that the end-to-end tests drive."""

import shutil
from pathlib import Path

# The one without windows needs less than half the processor time: it draws no user interface.
NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
HINT = "apt-get install chromium-headless-shell"


def find_browser() -> Path | None:
    """Chromium or Chrome on PATH."""
    found = next((path for path in map(shutil.which, NAMES) if path), None)
    return Path(found) if found else None
