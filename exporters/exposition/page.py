"""From families to the bytes of a scrape: text format and OpenMetrics, plain and gzip, rendered ahead of the scrape."""

import gzip
import threading
from collections.abc import Callable, Iterable
from dataclasses import replace
from http import HTTPStatus
from time import monotonic

from exporters.exposition.families import Family, created_line
from sidecar.web import Request, Response

TEXT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"
OPENMETRICS = "application/openmetrics-text"
# A page counts as stale after this multiple of its maximum age, and at the earliest after these seconds.
PATIENCE = 3
MIN_PATIENCE = 2.0
# Minimum number of seconds between the start of rendering and an expected scrape.
MIN_LEAD = 0.75


def merged(families: Iterable[Family]) -> list[Family]:
    """Merge families with the same name, because all lines of a metric must be adjacent."""
    by_name: dict[str, Family] = {}
    for family in families:
        known = by_name.get(family.name)
        if known is None:
            by_name[family.name] = replace(family, lines=list(family.lines), created=list(family.created))
        else:
            known.lines += family.lines
            known.created += family.created
    return list(by_name.values())


def with_label(families: Iterable[Family], label: str) -> Iterable[Family]:
    """The same families with a label added to every sample that lacks it."""
    for family in families:
        lines = [_labelled(line, label) for line in family.lines]
        yield replace(family, lines=lines)


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
            parts += _with_created(family) if openmetrics and family.created else family.lines
    if openmetrics:
        parts.append("# EOF")
    parts.append("")
    return "\n".join(parts).encode(errors="replace")


def _with_created(family: Family) -> Iterable[str]:
    for line, created in zip(family.lines, family.created, strict=True):
        yield line
        yield created_line(line, family.name, created)


def _help(text: str, *, openmetrics: bool) -> str:
    escaped = text.replace("\\", "\\\\").replace("\n", "\\n")
    return escaped.replace('"', '\\"') if openmetrics else escaped


# OpenMetrics, gzip.
Form = tuple[bool, bool]


class Asked:
    """When one form of the page was last requested, and when the next request is expected.

    With two Prometheus servers, two intervals alternate, so the last two are remembered.
    """

    __slots__ = ("gaps", "last")

    def __init__(self, now: float) -> None:
        self.last = now
        self.gaps: tuple[float, ...] = ()

    def again(self, now: float) -> None:
        """Note a scrape."""
        self.gaps = (now - self.last, *self.gaps[:1])
        self.last = now

    def is_due(self, now: float, lead: float) -> bool:
        """Whether a scrape is expected within ``lead`` seconds."""
        return any(0 <= self.last + gap - now <= lead for gap in self.gaps)


class Page:
    """The response to a scrape, rendered in the background shortly before the scrape is due.

    Only the forms that were requested recently are rendered. A form that was never requested, or that the background
    did not renew in time, is rendered on the requesting thread, so that a stale page is never served.

    Args:
        collect: produces the families.
        oldest: approximate maximum age of a page in seconds; 0: every scrape renders.
    """

    def __init__(self, collect: Callable[[], list[Family]], *, oldest: float) -> None:
        self._collect = collect
        self._oldest = oldest
        self._patience = max(PATIENCE * oldest, MIN_PATIENCE) if oldest else 0.0
        self._lock = threading.Lock()
        # Replaced as a whole: the time of rendering, and the bodies by form.
        self._made: tuple[float, dict[Form, bytes]] = (float("-inf"), {})
        self._took = 0.0
        self._asked: dict[Form, Asked] = {}

    def __call__(self, request: Request) -> Response:
        openmetrics = OPENMETRICS in request.headers.get("accept", "")
        packed = "gzip" in request.headers.get("accept-encoding", "")
        headers = {"Content-Encoding": "gzip", "Vary": "Accept-Encoding"} if packed else {}
        kind = OPENMETRICS_TYPE if openmetrics else TEXT_TYPE
        return Response(self.body(openmetrics=openmetrics, packed=packed), kind, HTTPStatus.OK, headers)

    def body(self, *, openmetrics: bool = False, packed: bool = False) -> bytes:
        """The document in one form."""
        form, now = (openmetrics, packed), monotonic()
        asked = self._asked.get(form)
        if asked is None:
            self._asked[form] = Asked(now)
        else:
            asked.again(now)
        return self._fresh(form, now) or self._rendered(form)

    def renew(self) -> bool:
        """Render the forms for which a scrape is due; returns whether there were any."""
        now = monotonic()
        if now - self._made[0] < self._oldest:
            return False
        lead = max(MIN_LEAD, 2 * self._took)
        forms = [form for form, asked in list(self._asked.items()) if asked.is_due(now, lead)]
        if forms:
            with self._lock:
                self._render(forms)
        return bool(forms)

    def _fresh(self, form: Form, now: float) -> bytes | None:
        made_at, bodies = self._made
        return bodies.get(form) if now - made_at < self._patience else None

    def _rendered(self, form: Form) -> bytes:
        asked_at = monotonic()
        with self._lock:
            # While this thread waited, another one may have rendered it.
            if self._made[0] < asked_at or form not in self._made[1]:
                self._render([form])
            return self._made[1][form]

    def _render(self, forms: list[Form]) -> None:
        made_at, families = monotonic(), self._collect()
        plain = {
            kind: render(families, openmetrics=kind) for kind in {openmetrics for openmetrics, _ in forms}
        }
        bodies = {form: _packed(plain[form[0]]) if form[1] else plain[form[0]] for form in forms}
        self._made, self._took = (made_at, bodies), monotonic() - made_at


def _packed(body: bytes) -> bytes:
    return gzip.compress(body, compresslevel=1, mtime=0)
