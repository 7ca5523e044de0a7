"""Reads a page as a browser would, and refuses anything that our pages must not contain."""

import re
from html.parser import HTMLParser

VOID = {"meta", "link", "img", "br"}
TAGS = {
    "html", "head", "meta", "link", "title", "style", "body", "nav", "h1", "h2", "h3", "p", "a", "span", "strong", "code",
    "pre", "ul", "ol", "li", "div", "table", "tr", "th", "td", "dl", "dt", "dd", "figure", "figcaption", "svg", "rect", "line",
}  # fmt: skip
ATTRIBUTES = {
    "lang", "charset", "name", "content", "rel", "href", "http-equiv", "class", "id", "title", "data-label", "tabindex",
    "viewbox", "preserveaspectratio", "role", "aria-label", "x", "y", "width", "height", "x1", "x2", "y1", "y2",
    "stroke-dasharray", "reversed",
}  # fmt: skip
# A text that becomes markup wherever it is not escaped: between tags, in an attribute, in a script or a style sheet.
HOSTILE = "'\"></style></title><script>alert(1)</script><img src=x onerror=alert(1)>\u202e\x00\ud800"
# A link leads to this service, or nowhere.
_ADDRESS = re.compile(r"/[\w./*-]*\Z|data:,\Z")


class Page(HTMLParser):
    """A page that was read: its text without markup, and where its links lead.

    Raises:
        AssertionError: it contains a tag, an attribute or an address that our pages do not have, or tags do not match.
    """

    def __init__(self, source: str | bytes) -> None:
        super().__init__()
        self._open: list[str] = []
        self._parts: list[str] = []
        self.links: set[str] = set()
        self.feed(source.decode() if isinstance(source, bytes) else source)
        self.close()
        assert self._open == []

    @property
    def text(self) -> str:
        """The words, with single spaces."""
        return " ".join(" ".join(self._parts).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        # A title is also an SVG tag; hostile texts ask for pictures.
        assert tag in TAGS, tag
        for name, value in attrs:
            assert name in ATTRIBUTES, (tag, name)
            if name == "href":
                assert _ADDRESS.match(value or ""), value
                self.links.add(value or "")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self._open:
            self._parts.append(data)
