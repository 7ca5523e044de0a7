"""Every row of every dashboard is explained, and nothing that does not exist is explained."""

import re
from pathlib import Path
from typing import Any


def test_headings_are_the_rows(dashboard: dict[str, Any], checkout: Path) -> None:
    page = checkout / "docs" / "dashboards" / f"{dashboard['uid'].removeprefix('posthub-')}.md"
    headings = re.findall(r"^## (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert headings == [panel["title"] for panel in dashboard["panels"] if panel["type"] == "row"]


def test_every_row_says_which_question_it_answers(dashboard: dict[str, Any], checkout: Path) -> None:
    page = checkout / "docs" / "dashboards" / f"{dashboard['uid'].removeprefix('posthub-')}.md"
    sections = re.split(r"^## .+$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert dashboard["title"] in sections[0]
    assert f"/d/{dashboard['uid']}" in sections[0]
    for section in sections[1:]:
        assert re.match(r"\s+\*\*[^*]+\?\*\*", section), section[:80]


def test_panels_named_in_the_docs_exist(all_dashboards: list[dict[str, Any]], checkout: Path) -> None:
    titles = {panel["title"] for dashboard in all_dashboards for panel in dashboard["panels"]}
    named = set()
    for page in (checkout / "docs" / "dashboards").glob("*.md"):
        named |= set(
            re.findall(r"(?<!\*)\*([A-Z][^*:]+)(?::[^*]+)?\*(?!\*)", page.read_text(encoding="utf-8"))
        )
    words = {
        "In",
        "Never",
        "Out",
        "Dead",
        "No data",
        "Not verified",
        "Verified",
        "Vacuumed ago",
        "Watchdog",
        "Runs in",
        "Spooled backups",
    }
    assert named - titles - words == set()


def test_the_index_links_every_page(checkout: Path) -> None:
    index = (checkout / "docs" / "dashboards.md").read_text(encoding="utf-8")
    pages = {f"dashboards/{page.name}" for page in (checkout / "docs" / "dashboards").glob("*.md")}
    assert set(re.findall(r"\]\((dashboards/[^)]+)\)", index)) == pages
