"""From families to the bytes of a scrape: text format and OpenMetrics, plain and gzip, made before it is asked for."""

import gzip
import threading
from collections.abc import Callable, Iterable
from http import HTTPStatus
from time import monotonic

from exporters.exposition.families import Family
from sidecar.web import Request, Response

TEXT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"
OPENMETRICS = "application/openmetrics-text"
# Scrapes are at most this far apart; forms that nobody has asked for since are not rendered.
ASKED_SECONDS = 150.0
# Rounds that may fail to come before a page counts as old, and the seconds that it lives at least.
MOST_MISSED = 3
LEAST_PATIENCE = 2.0


def merged(families: Iterable[Family]) -> list[Family]:
    """Families of one name as one: every line of a metric must stand together."""
    by_name: dict[str, Family] = {}
    for family in families:
        known = by_name.get(family.name)
        if known is None:
            by_name[family.name] = Family(family.name, family.kind, family.help, list(family.lines))
        else:
            known.lines += family.lines
    return list(by_name.values())


def with_label(families: Iterable[Family], label: str) -> Iterable[Family]:
    """The same families with one more label in every sample that does not begin with it."""
    for family in families:
        lines = [_labelled(line, label) for line in family.lines]
        yield Family(family.name, family.kind, family.help, lines)


def _labelled(line: str, label: str) -> str:
    brace, space = line.find("{"), line.find(" ")
    if line.startswith(label, brace + 1):
        return line
    if 0 <= brace < space:
        return f"{line[: brace + 1]}{label},{line[brace + 1 :]}"
    return f"{line[:space]}{{{label}}}{line[space:]}"


def render(families: Iterable[Family], *, openmetrics: bool = False) -> bytes:
    """The families as one document; those without samples are left out."""
    parts: list[str] = []
    for family in families:
        if family.lines:
            total = "_total" if family.kind == "counter" and not openmetrics else ""
            parts.append(f"# HELP {family.name}{total} {_help(family.help, openmetrics=openmetrics)}")
            parts.append(f"# TYPE {family.name}{total} {family.kind}")
            parts += family.lines
    if openmetrics:
        parts.append("# EOF")
    parts.append("")
    return "\n".join(parts).encode(errors="replace")


def _help(text: str, *, openmetrics: bool) -> str:
    escaped = text.replace("\\", "\\\\").replace("\n", "\\n")
    return escaped.replace('"', '\\"') if openmetrics else escaped


Form = tuple[bool, bool]


class Page:
    """A scrape's answer. It is rendered in the background, so that a scrape only hands it out.

    Rendered are the forms that were asked for of late. What nobody has asked for yet, or what the background has not
    renewed in time, is rendered on the asking thread: an old page must not pass for a new one.

    Args:
        collect: produces the families.
        interval: seconds between two rounds of :meth:`renew`; 0: there are none.
    """

    def __init__(self, collect: Callable[[], list[Family]], *, interval: float) -> None:
        self._collect = collect
        self._patience = max(MOST_MISSED * interval, LEAST_PATIENCE) if interval else 0.0
        self._lock = threading.Lock()
        # Replaced whole: when it was made, and its bodies by (OpenMetrics, gzip).
        self._made: tuple[float, dict[Form, bytes]] = (float("-inf"), {})
        self._asked: dict[Form, float] = {}

    def __call__(self, request: Request) -> Response:
        openmetrics = OPENMETRICS in request.headers.get("accept", "")
        packed = "gzip" in request.headers.get("accept-encoding", "")
        headers = {"Content-Encoding": "gzip", "Vary": "Accept-Encoding"} if packed else {}
        kind = OPENMETRICS_TYPE if openmetrics else TEXT_TYPE
        return Response(self.body(openmetrics=openmetrics, packed=packed), kind, HTTPStatus.OK, headers)

    def body(self, *, openmetrics: bool = False, packed: bool = False) -> bytes:
        """The document in one form."""
        form, now = (openmetrics, packed), monotonic()
        self._asked[form] = now
        return self._fresh(form, now) or self._rendered(form)

    def renew(self) -> None:
        """Render what was asked for of late; nothing when nobody asks."""
        since = monotonic() - ASKED_SECONDS
        forms = [form for form, at in list(self._asked.items()) if at > since]
        if forms:
            with self._lock:
                self._render(forms)

    def _fresh(self, form: Form, now: float) -> bytes | None:
        made_at, bodies = self._made
        return bodies.get(form) if now - made_at < self._patience else None

    def _rendered(self, form: Form) -> bytes:
        asked_at = monotonic()
        with self._lock:
            # While this thread waited another one may have rendered it.
            if self._made[0] < asked_at or form not in self._made[1]:
                self._render([form])
            return self._made[1][form]

    def _render(self, forms: list[Form]) -> None:
        made_at, families = monotonic(), self._collect()
        plain = {
            kind: render(families, openmetrics=kind) for kind in {openmetrics for openmetrics, _ in forms}
        }
        self._made = made_at, {form: _packed(plain[form[0]]) if form[1] else plain[form[0]] for form in forms}


def _packed(body: bytes) -> bytes:
    return gzip.compress(body, compresslevel=1, mtime=0)
