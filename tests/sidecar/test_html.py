"""The style of our pages."""

import re

import pytest

from sidecar import html


def luminance(colour: str) -> float:
    """Relative luminance as WCAG 2 defines it."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("mode", [html.LIGHT, html.DARK], ids=["light", "dark"])
@pytest.mark.parametrize("name", ["text", "dim", "link", "good", "warn", "bad"])
@pytest.mark.parametrize("ground", ["page", "card"])
def test_contrast(mode: dict[str, str], name: str, ground: str) -> None:
    light, dark = sorted((luminance(mode[name]), luminance(mode[ground])), reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= 4.5


def test_what_comes_from_outside_is_text() -> None:
    page = html.page(
        "<b>", html.table(["<i>"], [[html.marked("<u>", "bad"), html.link('"><s>', "<q>")]])
    ).decode()
    for tag in ("<b>", "<i>", "<u>", "<s>", "<q>"):
        assert tag not in page


def test_a_page_needs_no_script_and_asks_for_nothing_else() -> None:
    page = html.page("Title", "", refresh=5).decode()
    assert "<script" not in page
    assert not re.search(r'(?:src|href)="(?!data:,)', page)
    assert page.count("<h1>Title</h1>") == 1
    assert 'http-equiv="refresh" content="5"' in page
