"""The documentation as a web site: built by Sphinx from the pages where they are, without dead links."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from sidecar import OpsError
from stack import docsite, pages
from stack.paths import ROOT

INDEX = "# Documentation\n\n## How to\n\n| page | when |\n|---|---|\n| [a.md](a.md) | first |\n"
PAGES = {
    "README.md": "# Ours\n\n[all](docs/README.md)\n",
    "CONTRIBUTING.md": "# Contributing\n",
    "CHANGELOG.md": "# Changelog\n",
    "SECURITY.md": "# Security\n",
    "docs/README.md": INDEX,
    "docs/a.md": "# Page A\n\n## One part\n\n[here](#one-part), [code](../thing.py#L3), [start](../README.md)\n",
    "thing.py": "",
    "runbooks/README.md": "# Runbooks\n",
    "runbooks/alerts/README.md": "# Alert pages\n\n[the server](Down.md)\n",
    "runbooks/alerts/Down.md": "# Down\n",
}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    root = tmp_path / "checkout"
    for name, text in PAGES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_pages_of_a_checkout_become_a_site(checkout: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    docsite.build(site, checkout)
    assert docsite.dead_links(site) == []
    start = (site / "README.html").read_text()
    # The navigation has the titles of the pages, under those of the index.
    for text in ("How to", "Page A", "Runbooks", "Contributing"):
        assert f">{text}<" in re.sub(r"\s*\n\s*", "", start), text
    # The pages of single alerts are reached from their list.
    assert ">Down<" not in start
    assert 'href="Down.html"' in (site / "runbooks/alerts/README.html").read_text()
    page = (site / "docs/a.html").read_text()
    assert f'href="{docsite.REPOSITORY}/thing.py#L3"' in page
    assert 'href="../README.html"' in page
    assert "README.html" in (site / "index.html").read_text()


@pytest.mark.parametrize("link", ["missing.md", "../missing.py", "a.md#missing", "#missing"])
def test_a_page_with_a_dead_link_fails_each_time(checkout: Path, tmp_path: Path, link: str) -> None:
    (checkout / "docs/a.md").write_text(f"# Page A\n\n[gone]({link})\n")
    for _ in range(2):
        with pytest.raises(OpsError, match="docs/a"):
            docsite.build(tmp_path / "site", checkout)


@pytest.mark.parametrize(
    "damage",
    [
        lambda site: (site / "docs/a.html").unlink(),
        lambda site: (site / "docs/a.html").write_text('<a href="../README.html#no-such-part">x</a>'),
        lambda site: (site / "docs/a.html").write_text('<img src="no-such.png">'),
    ],
    ids=["page", "part", "picture"],
)
def test_a_dead_link_of_the_built_site_is_found(
    checkout: Path, tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    docsite.build(tmp_path / "site", checkout)
    damage(tmp_path / "site")
    assert docsite.dead_links(tmp_path / "site") != []


@pytest.mark.timeout(900)
def test_the_site_of_this_checkout_has_every_page_and_no_dead_link(tmp_path: Path) -> None:
    docsite.build(tmp_path)
    assert docsite.dead_links(tmp_path) == []
    built = {path.relative_to(tmp_path).with_suffix(".md") for path in tmp_path.rglob("*.html")}
    assert set(pages.pages(ROOT)) <= built
