"""A page of pixels: matplotlib with the origin at the top left, as in a browser."""

from dataclasses import dataclass
from functools import cache

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from matplotlib.patches import FancyBboxPatch, Rectangle, Wedge

from dashboards.render.theme import Theme

DPI = 100
# Half the height of a capital letter, in pixels per point of its size.
_HALF_CAPITAL = 0.5


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels, y growing downwards."""

    x: float
    y: float
    width: float
    height: float

    def inset(self, left: float, top: float, right: float, bottom: float) -> "Box":
        """Return the rectangle within these margins."""
        return Box(self.x + left, self.y + top, self.width - left - right, self.height - top - bottom)


class Canvas:
    """Draws shapes and text, and creates axes for graphs."""

    def __init__(self, width: int, height: int, theme: Theme) -> None:
        self.width, self.height, self.theme = width, height, theme
        self.figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor=theme.page)
        FigureCanvasAgg(self.figure)
        self._page = self.figure.add_axes((0, 0, 1, 1))
        self._page.set_axis_off()
        self._page.set_xlim(0, width)
        self._page.set_ylim(height, 0)

    def axes(self, box: Box) -> Axes:
        """Return axes that fill `box`, styled for the theme."""
        bottom = self.height - box.y - box.height
        made = self.figure.add_axes(
            (box.x / self.width, bottom / self.height, box.width / self.width, box.height / self.height)
        )
        made.set_facecolor("none")
        for side in made.spines.values():
            side.set_visible(False)
        made.tick_params(length=0, labelsize=7.5, labelcolor=self.theme.quiet, pad=3)
        return made

    def card(self, box: Box) -> None:
        """Draw the background of a panel."""
        style = "round,pad=0,rounding_size=4"
        self._page.add_patch(
            FancyBboxPatch(
                (box.x, box.y),
                box.width,
                box.height,
                boxstyle=style,
                fc=self.theme.card,
                ec=self.theme.border,
                lw=0.8,
            )
        )

    def rectangle(self, box: Box, color: str, alpha: float = 1) -> None:
        """Fill a rectangle."""
        self._page.add_patch(
            Rectangle((box.x, box.y), box.width, box.height, fc=color, ec="none", alpha=alpha)
        )

    def arc(
        self, x: float, y: float, radius: float, thick: float, start: float, end: float, color: str
    ) -> None:
        """Draw a part of a ring; angles in degrees, clockwise from twelve o'clock."""
        self._page.add_patch(Wedge((x, y), radius, start - 90, end - 90, width=thick, fc=color, ec="none"))

    def text(
        self,
        x: float,
        y: float,
        text: str,
        *,
        size: float = 8.5,
        color: str | None = None,
        bold: bool = False,
        align: str = "left",
        room: float | None = None,
    ) -> None:
        """Write one line, centred on `y`, shortened to `room` pixels."""
        shown = text if room is None else shorten(text, size, room)
        self._page.text(
            x,
            # On the line of the capitals: "centred" would lift a text that has a letter below the line.
            y + size * _HALF_CAPITAL,
            shown.replace("$", r"\$"),
            fontsize=size,
            color=color or self.theme.text,
            fontweight="bold" if bold else "normal",
            ha=align,
            va="baseline",
        )

    def save(self, path: str) -> None:
        """Write the PNG, without a date in it: the same data gives the same file."""
        self.figure.savefig(path, dpi=DPI, metadata={"Software": "posthub-ops"})


@cache
def width_of(text: str, size: float) -> float:
    """Return the width of `text` in pixels."""
    font = get_font(findfont("DejaVu Sans"))
    font.set_size(size, DPI)
    font.set_text(text)
    return float(font.get_width_height()[0]) / 64


def shorten(text: str, size: float, room: float) -> str:
    """Return `text`, its end replaced by an ellipsis when it does not fit."""
    if width_of(text, size) <= room:
        return text
    kept = text
    while kept and width_of(kept + "…", size) > room:
        kept = kept[:-1]
    return kept + "…"
