"""The style of our pages."""

import base64
import hashlib
import re

import pytest

from sidecar import html, svg
from tests.sidecar.markup import HOSTILE, Page


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
        "<b>", html.table(["<i>", "two"], [[html.marked("<u>", "bad"), html.link('"><s>', "<q>")]])
    ).decode()
    for tag in ("<b>", "<i>", "<u>", "<s>", "<q>"):
        assert tag not in page


def test_a_page_needs_no_script_and_loads_nothing_else() -> None:
    page = html.page("Title", "", refresh=5).decode()
    assert "<script" not in page
    assert not re.search(r'(?:src|href)="(?!data:,)', page)
    assert page.count("<h1>Title</h1>") == 1
    assert 'http-equiv="refresh" content="5"' in page


def test_hostile_text_is_shown_as_text_everywhere() -> None:
    body = "".join(
        (
            html.table([HOSTILE], [[html.text(HOSTILE)]], kind="stack"),
            html.definitions([(HOSTILE, html.text(HOSTILE))]),
            html.card(HOSTILE, HOSTILE, HOSTILE),
            html.notice("bad", HOSTILE, [HOSTILE]),
            html.marked(HOSTILE, "bad"),
            svg.bars([svg.Bar(1, "good", HOSTILE), svg.Bar(None, "bad", HOSTILE)], HOSTILE),
            svg.spans([svg.Span(0, 1, "good", HOSTILE)], HOSTILE, begin=0, end=2),
        )
    )
    page = Page(html.page(HOSTILE, body))
    assert "<script>alert(1)" in page.text
    # It could hide or turn around what follows it.
    assert not re.search("[\u202e\x00\ud800]", page.text)


def test_a_long_text_is_cut_and_says_so() -> None:
    assert html.text("x" * 10_000).endswith("… (10,000 characters)")


def test_the_policy_allows_the_style_sheet_and_no_script() -> None:
    response = html.respond("Title", "")
    (sheet,) = re.findall(r"<style>(.*?)</style>", response.body.decode(), re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(sheet.encode()).digest()).decode()
    policy = response.headers["Content-Security-Policy"]
    assert f"style-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert "script" not in policy


def test_bars_are_as_high_as_their_values_say() -> None:
    drawn = svg.bars([svg.Bar(value, "good", f"{value}") for value in (0.0, 5.0, 10.0)], "three", limit=20)
    assert re.findall(r' height="([\d.]+)"', drawn) == ["2", "15", "30"]
    assert 'y1="0"' in drawn


def test_a_limit_far_above_does_not_flatten_the_bars() -> None:
    drawn = svg.bars([svg.Bar(1.0, "good", "one")], "one", limit=3600)
    assert "<line" not in drawn
    assert 'height="60"' in drawn


def test_nothing_known_is_an_empty_chart() -> None:
    assert "<rect" not in svg.bars([svg.Bar(None, "good", "")], "nothing")


def test_spans_stay_inside() -> None:
    drawn = svg.spans([svg.Span(-10, 5, "good", "a"), svg.Span(9, 99, "bad", "b")], "two", begin=0, end=10)
    assert re.findall(r' x="([\d.]+)" y="8" width="([\d.]+)"', drawn) == [("0", "500"), ("900", "100")]


def test_a_short_span_and_one_that_begins_after_the_end_are_seen() -> None:
    drawn = svg.spans([svg.Span(5, 5, "bad", "a"), svg.Span(12, 13, "bad", "b")], "two", begin=0, end=10)
    assert re.findall(r' x="([\d.]+)" y="8" width="([\d.]+)"', drawn) == [("500", "2"), ("1000", "2")]
