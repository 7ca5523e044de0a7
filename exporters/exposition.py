"""From families to the bytes of a scrape: text format and OpenMetrics, plain and gzip, cached for a moment."""

import gzip
import threading
import time
from collections.abc import Callable, Iterable
from http import HTTPStatus

from exporters.series import Family
from sidecar.web import Request, Response

TEXT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"
OPENMETRICS = "application/openmetrics-text"


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


class Page:
    """A scrape's answer, made at most once per interval and form, whoever asks how often.

    Args:
        collect: produces the families; called on the asking thread.
        interval: seconds for which an answer is reused.
    """

    def __init__(self, collect: Callable[[], list[Family]], *, interval: float) -> None:
        self._collect = collect
        self._interval = interval
        self._lock = threading.Lock()
        self._made_at = float("-inf")
        self._families: list[Family] = []
        self._bodies: dict[tuple[bool, bool], bytes] = {}

    def __call__(self, request: Request) -> Response:
        openmetrics = OPENMETRICS in request.headers.get("accept", "")
        packed = "gzip" in request.headers.get("accept-encoding", "")
        headers = {"Content-Encoding": "gzip", "Vary": "Accept-Encoding"} if packed else {}
        kind = OPENMETRICS_TYPE if openmetrics else TEXT_TYPE
        return Response(self.body(openmetrics=openmetrics, packed=packed), kind, HTTPStatus.OK, headers)

    def body(self, *, openmetrics: bool = False, packed: bool = False) -> bytes:
        """The document in one form."""
        with self._lock:
            self._refresh()
            form = (openmetrics, packed)
            if form not in self._bodies:
                self._bodies[form] = self._made(openmetrics=openmetrics, packed=packed)
            return self._bodies[form]

    def _refresh(self) -> None:
        now = time.monotonic()
        if now - self._made_at >= self._interval:
            self._families, self._made_at = self._collect(), now
            self._bodies.clear()

    def _made(self, *, openmetrics: bool, packed: bool) -> bytes:
        plain = self._bodies.get((openmetrics, False)) or render(self._families, openmetrics=openmetrics)
        self._bodies[openmetrics, False] = plain
        return gzip.compress(plain, compresslevel=1, mtime=0) if packed else plain
