"""The browser that the end-to-end tests drive."""

import shutil
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "chromium-headless-shell", "google-chrome", "google-chrome-stable")
HINT = "apt-get install chromium"


def find_browser() -> Path | None:
    """Chromium or Chrome on PATH."""
    found = next((path for path in map(shutil.which, NAMES) if path), None)
    return Path(found) if found else None
