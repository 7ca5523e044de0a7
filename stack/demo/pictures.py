"""Pictures of the dashboards, drawn from the demo's own Prometheus."""

from collections.abc import Iterator
from pathlib import Path

from dashboards.render import render_all

# These have data in every row after a minute of the demo, without host exporters.
SHOWN = ("overview", "celery", "api", "backup")
SPAN = "2m"
SCRAPE_SECONDS = 1.0


def draw(prometheus_url: str, folder: Path) -> Iterator[Path]:
    """Draw them into the folder, and yield each file as soon as it is written."""
    yield from render_all(prometheus_url, SHOWN, SPAN, "light", folder, scrape_interval=SCRAPE_SECONDS)
