"""The pages that our services serve: one style sheet, light and dark, readable on a phone, without scripts."""

import hashlib
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from http import HTTPStatus

from sidecar.web import HTML, Response

# Every text has a contrast of at least 4.5 to its background, in both modes (tests/sidecar/test_html.py).
LIGHT = {
    "page": "#ffffff",
    "card": "#f5f7fa",
    "text": "#1d2330",
    "dim": "#566070",
    "line": "#c8cdd6",
    "link": "#1a56b0",
    "good": "#146c43",
    "warn": "#8a5a00",
    "bad": "#b42318",
}
DARK = {
    "page": "#14171f",
    "card": "#1e232e",
    "text": "#e4e7ec",
    "dim": "#9aa4b5",
    "line": "#3a4252",
    "link": "#8ab4f8",
    "good": "#5fcf9a",
    "warn": "#e8b04b",
    "bad": "#ff9b90",
}
# Longer text from a broker, a database or a store is truncated, so that pages stay readable.
LONGEST_TEXT = 500
_RULES = """
* { box-sizing: border-box }
body { font: 15px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 72rem; padding: 1.5rem 1rem 3rem;
  color: var(--text); background: var(--page) }
h1 { font-size: 1.5rem; margin: 0 0 1rem; overflow-wrap: anywhere }
h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; overflow-wrap: anywhere } h3 { font-size: 1rem; margin: 1.2rem 0 .3rem }
a { color: var(--link) } code { font: .9em ui-monospace, monospace; overflow-wrap: anywhere }
pre { background: var(--card); padding: .7rem 1rem; border-radius: 6px; overflow-x: auto }
ul { padding-left: 1.2rem; overflow-wrap: anywhere } nav { margin: 0 0 .8rem }
.scroll { overflow-x: auto } table { border-collapse: collapse; width: 100% }
th, td { text-align: left; padding: .35rem .9rem .35rem 0; vertical-align: top }
th { color: var(--dim); font-weight: 600; border-bottom: 1px solid var(--line); white-space: nowrap }
td { border-bottom: 1px solid var(--line); overflow-wrap: anywhere }
td.number, th.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums }
.cards { display: grid; gap: .8rem; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)) }
.card { background: var(--card); border-radius: 8px; padding: .8rem 1rem; overflow-wrap: anywhere }
.card h2, .card p { margin: .1rem 0 } .figure { font-size: 1.3rem; font-weight: 600 }
.notice { background: var(--card); border-left: 4px solid var(--dim); border-radius: 6px; margin: .8rem 0;
  padding: .6rem 1rem; overflow-wrap: anywhere }
.notice.good { border-color: var(--good) } .notice.warn { border-color: var(--warn); font-weight: 400 }
.notice.bad { border-color: var(--bad); font-weight: 400 } .notice ul { margin: .3rem 0 0 }
.good { color: var(--good) } .warn { color: var(--warn); font-weight: 600 } .bad { color: var(--bad); font-weight: 600 }
.dim { color: var(--dim) } img, svg { max-width: 100% } svg text { fill: var(--dim); font: 11px system-ui, sans-serif }
.charts { display: grid; gap: 0 1.2rem; align-items: end; grid-template-columns: repeat(auto-fit, minmax(17rem, 1fr)) }
table.narrow { width: auto }
figure { margin: .8rem 0 } figcaption { color: var(--dim); font-size: .9rem }
svg.chart { display: block; width: 100%; height: 4.5rem; background: var(--card); border-radius: 6px }
svg.chart.low { height: 1.6rem }
svg rect { fill: var(--dim) } svg rect.good { fill: var(--good) } svg rect.warn { fill: var(--warn) }
svg rect.bad { fill: var(--bad) } svg rect.plain { fill: var(--link) } svg line { stroke: var(--warn) }
svg a:hover rect { opacity: .7 }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; margin: .5rem 0 }
dt { color: var(--dim) } dd { margin: 0; overflow-wrap: anywhere }
@media (max-width: 40rem) {
  .stack tr:first-child { display: none } .stack td { display: flex; border: 0; padding: .1rem 0; text-align: left }
  .stack td.number { text-align: left; white-space: normal }
  .stack td::before { content: attr(data-label); color: var(--dim); flex: 0 0 8.5rem }
  .stack tr { display: block; border-bottom: 1px solid var(--line); padding: .5rem 0 }
  dl { grid-template-columns: 1fr; gap: 0 } dd { margin-bottom: .4rem }
}
"""


def respond(title: str, body: str, *, refresh: int | None = None, status: int = HTTPStatus.OK) -> Response:
    """A whole page as a response. Its browser is forbidden to run scripts and to load anything from elsewhere.

    Args:
        body: HTML, in which outside data must be escaped.
        refresh: seconds after which a browser reloads it.
    """
    return Response(page(title, body, refresh=refresh), HTML, status, HEADERS)


def page(title: str, body: str, *, refresh: int | None = None) -> bytes:
    """A whole page, see :func:`respond`."""
    again = f'<meta http-equiv="refresh" content="{refresh}">' if refresh else ""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        # Without an icon, each visit requests /favicon.ico and logs an error.
        f'<link rel="icon" href="data:,">{again}<title>{text(title)}</title><style>{_SHEET}</style></head>'
        f"<body><h1>{text(title)}</h1>{body}</body></html>\n"
    ).encode(errors="replace")


def text(value: object) -> str:
    """A text from outside as HTML: no markup, no invisible characters, not longer than a page can show."""
    shown = str(value)
    if len(shown) > LONGEST_TEXT:
        shown = f"{shown[:LONGEST_TEXT]}… ({len(shown):,} characters)"
    visible = "".join(char if char.isprintable() or char == "\n" else "\ufffd" for char in shown)
    return escape(visible)


def table(
    heads: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: Iterable[int] = (), kind: str = ""
) -> str:
    """A table that scrolls within itself if it is too wide.

    Args:
        rows: cells of HTML, in which outside data must be escaped.
        numbers: positions of the columns that are aligned to the right.
        kind: ``stack``: on a narrow screen, show each row as a list of its cells; ``narrow``: only as wide as needed.
    """
    right = set(numbers)

    def cells(texts: Sequence[str], tag: str) -> str:
        parts = []
        for place, (head, cell) in enumerate(zip(heads, texts, strict=True)):
            number = ' class="number"' if place in right else ""
            label = f' data-label="{text(head)}"' if kind == "stack" and tag == "td" else ""
            parts.append(f"<{tag}{number}{label}>{cell}</{tag}>")
        return "".join(parts)

    body = "".join(f"<tr>{cells(row, 'td')}</tr>" for row in rows)
    head = cells([text(each) for each in heads], "th")
    return f'<div class="scroll"><table class="{escape(kind)}"><tr>{head}</tr>{body}</table></div>'


def definitions(items: Iterable[tuple[str, str]]) -> str:
    """Names with their values; the values are HTML."""
    pairs = "".join(f"<dt>{text(name)}</dt><dd>{value}</dd>" for name, value in items)
    return f"<dl>{pairs}</dl>"


def card(title: str, figure: str, note: str = "", kind: str = "") -> str:
    """A figure with its name above and a note below; all of them are texts."""
    below = f'<p class="dim">{text(note)}</p>' if note else ""
    return f'<div class="card"><p class="dim">{text(title)}</p><p class="figure {kind}">{text(figure)}</p>{below}</div>'


def notice(kind: str, head: str, lines: Iterable[str] = ()) -> str:
    """A sentence that must be noticed, with its details; all of them are texts."""
    items = "".join(f"<li>{text(line)}</li>" for line in lines)
    return f'<div class="notice {kind}"><strong>{text(head)}</strong>{f"<ul>{items}</ul>" if items else ""}</div>'


def marked(value: str, kind: str) -> str:
    """A text with a class of the style sheet: good, warn, bad or dim."""
    return f'<span class="{kind}">{text(value)}</span>'


def link(address: str, value: str) -> str:
    return f'<a href="{escape(address)}">{text(value)}</a>'


def _sheet() -> str:
    def colours(mode: Mapping[str, str]) -> str:
        return ";".join(f"--{name}:{colour}" for name, colour in mode.items())

    return (
        f":root{{color-scheme:light dark;{colours(LIGHT)}}}"
        f"@media (prefers-color-scheme: dark){{:root{{{colours(DARK)}}}}}{_RULES}"
    )


_SHEET = _sheet()
_DIGEST = b64encode(hashlib.sha256(_SHEET.encode()).digest()).decode()
POLICY = (
    f"default-src 'none'; style-src 'sha256-{_DIGEST}'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
