"""Pictures of the dashboards, drawn from the demo's own Prometheus."""

from collections.abc import Iterator
from pathlib import Path

from dashboards.render import render_all

SPAN = "2m"
SCRAPE_SECONDS = 1.0


def draw(prometheus_url: str, folder: Path) -> Iterator[Path]:
    """Draw what has data into the folder, and yield each file as soon as it is written."""
    yield from render_all(
        prometheus_url, (), SPAN, "light", folder, scrape_interval=SCRAPE_SECONDS, only_with_data=True
    )
