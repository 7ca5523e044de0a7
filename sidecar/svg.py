"""Small charts as inline SVG: no script, no picture to load, in the colours of the page's style sheet."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from sidecar.html import text

# A chart has room for at least this number of bars, so that a single bar does not fill it.
MIN_PLACES = 30
PLACE = 10
BAR = 8
HEIGHT = 60
# The minimum height of a bar, so that a small value can still be seen and hovered over.
MIN_BAR = 2
SPAN_WIDTH = 1000


@dataclass(frozen=True)
class Bar:
    """One bar.

    Attributes:
        value: its height; None: nothing is known, so there is no bar.
        kind: good, warn, bad, dim or plain.
        title: the tooltip.
        address: the target of its link; empty: no link.
    """

    value: float | None
    kind: str
    title: str
    address: str = ""


@dataclass(frozen=True)
class Span:
    """A period of time, in any unit."""

    begin: float
    end: float
    kind: str
    title: str


def bars(shown: Sequence[Bar], caption: str, *, limit: float | None = None) -> str:
    """Bars from left to right, the newest at the right edge.

    Args:
        caption: a sentence with the figures; also for people who cannot see the chart.
        limit: a value at which a line is drawn, such as a target.
    """
    most = max([each.value for each in shown if each.value is not None], default=0.0)
    # A target far above all values would flatten the bars.
    drawn = limit if limit is not None and limit <= 3 * most else None
    top = max(most, drawn or 0.0) or 1.0
    places = max(MIN_PLACES, len(shown))
    begin = places - len(shown)
    parts = [
        _bar(each, (begin + place) * PLACE, top) for place, each in enumerate(shown) if each.value is not None
    ]
    if drawn is not None:
        y = _round(HEIGHT - drawn / top * HEIGHT)
        parts.append(f'<line x1="0" x2="{places * PLACE}" y1="{y}" y2="{y}" stroke-dasharray="6 4"/>')
    return _figure(f"0 0 {places * PLACE} {HEIGHT}", "chart", "".join(parts), caption)


def spans(shown: Sequence[Span], caption: str, *, begin: float, end: float) -> str:
    """Periods of time on one line."""
    whole = max(end - begin, 1e-9)
    parts = []
    for each in shown:
        left = min(max(each.begin, begin), end)
        right = min(max(each.end, begin), end)
        x, width = (left - begin) / whole * SPAN_WIDTH, (right - left) / whole * SPAN_WIDTH
        parts.append(
            f'<rect class="{escape(each.kind)}" x="{_round(x)}" y="8" width="{_round(max(width, MIN_BAR))}" '
            f'height="24"><title>{text(each.title)}</title></rect>'
        )
    return _figure(f"0 0 {SPAN_WIDTH} 40", "chart low", "".join(parts), caption)


def _bar(each: Bar, x: int, top: float) -> str:
    height = max(MIN_BAR, (each.value or 0.0) / top * HEIGHT)
    rect = (
        f'<rect class="{escape(each.kind)}" x="{x + (PLACE - BAR) // 2}" y="{_round(HEIGHT - height)}" '
        f'width="{BAR}" height="{_round(height)}"><title>{text(each.title)}</title></rect>'
    )
    # The table below has the same links for the keyboard.
    return f'<a href="{escape(each.address)}" tabindex="-1">{rect}</a>' if each.address else rect


def _figure(box: str, kind: str, content: str, caption: str) -> str:
    return (
        f'<figure><figcaption>{text(caption)}</figcaption><svg class="{kind}" viewBox="{box}" '
        f'preserveAspectRatio="none" role="img" aria-label="{text(caption)}">{content}</svg></figure>'
    )


def _round(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
