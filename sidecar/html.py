"""The pages that our services show: one style sheet, light and dark, readable on a telephone, without scripts."""

from collections.abc import Iterable, Sequence
from html import escape

# Every text has a contrast of at least 4.5 to its background, in both modes (tests/sidecar/test_html.py).
LIGHT = {
    "page": "#ffffff", "card": "#f5f7fa", "text": "#1d2330", "dim": "#566070", "line": "#c8cdd6", "link": "#1a56b0",
    "good": "#146c43", "warn": "#8a5a00", "bad": "#b42318",
}  # fmt: skip
DARK = {
    "page": "#14171f", "card": "#1e232e", "text": "#e4e7ec", "dim": "#9aa4b5", "line": "#3a4252", "link": "#8ab4f8",
    "good": "#5fcf9a", "warn": "#e8b04b", "bad": "#ff9b90",
}  # fmt: skip
_RULES = """
* { box-sizing: border-box }
body { font: 15px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 72rem; padding: 1.5rem 1rem 3rem;
  color: var(--text); background: var(--page) }
h1 { font-size: 1.5rem; margin: 0 0 1rem } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem }
a { color: var(--link) } code { font: .9em ui-monospace, monospace; overflow-wrap: anywhere }
pre { background: var(--card); padding: .7rem 1rem; border-radius: 6px; overflow-x: auto }
.scroll { overflow-x: auto } table { border-collapse: collapse; width: 100% }
th, td { text-align: left; padding: .35rem .9rem .35rem 0; vertical-align: top }
th { color: var(--dim); font-weight: 600; border-bottom: 1px solid var(--line); white-space: nowrap }
td { border-bottom: 1px solid var(--line) } td.number, th.number { text-align: right; white-space: nowrap }
.cards { display: grid; gap: .8rem; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)) }
.card { background: var(--card); border-radius: 8px; padding: .8rem 1rem } .card h2, .card p { margin: .1rem 0 }
.good { color: var(--good) } .warn { color: var(--warn); font-weight: 600 } .bad { color: var(--bad); font-weight: 600 }
.dim { color: var(--dim) } img, svg { max-width: 100% } svg text { fill: var(--dim); font: 11px system-ui, sans-serif }
"""


def page(title: str, body: str, *, refresh: int | None = None) -> bytes:
    """A whole page.

    Args:
        body: HTML; what comes from outside must be escaped in it.
        refresh: seconds after which a browser loads it again.
    """
    again = f'<meta http-equiv="refresh" content="{refresh}">' if refresh else ""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        # Without one, each visit asks for /favicon.ico and logs an error.
        f'<link rel="icon" href="data:,">{again}<title>{escape(title)}</title><style>{_sheet()}</style></head>'
        f"<body><h1>{escape(title)}</h1>{body}</body></html>\n"
    ).encode()


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: Iterable[int] = ()) -> str:
    """A table that scrolls inside itself where it is too wide.

    Args:
        rows: cells of HTML; what comes from outside must be escaped in them.
        numbers: positions of the columns that are aligned to the right.
    """
    right = set(numbers)

    def cells(texts: Sequence[str], tag: str) -> str:
        kinds = [' class="number"' if place in right else "" for place in range(len(texts))]
        return "".join(f"<{tag}{kind}>{text}</{tag}>" for kind, text in zip(kinds, texts, strict=True))

    body = "".join(f"<tr>{cells(row, 'td')}</tr>" for row in rows)
    head = cells([escape(text) for text in heads], "th")
    return f'<div class="scroll"><table><tr>{head}</tr>{body}</table></div>'


def marked(text: str, kind: str) -> str:
    """A text with a class of the style sheet: good, warn, bad or dim."""
    return f'<span class="{kind}">{escape(text)}</span>'


def link(address: str, text: str) -> str:
    return f'<a href="{escape(address)}">{escape(text)}</a>'


def _sheet() -> str:
    def colours(mode: dict[str, str]) -> str:
        return ";".join(f"--{name}:{colour}" for name, colour in mode.items())

    return (
        f":root{{color-scheme:light dark;{colours(LIGHT)}}}"
        f"@media (prefers-color-scheme: dark){{:root{{{colours(DARK)}}}}}{_RULES}"
    )
