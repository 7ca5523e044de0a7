"""Metric families and label text."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import blake2s
from math import isinf, isnan

OVERFLOW = "other"
UNKNOWN = "unknown"
LONGEST_LABEL = 200

_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})
# A lone surrogate is legal in JSON but cannot be encoded as UTF-8.
_SURROGATES = dict.fromkeys(range(55296, 57344), "�")


def clean(value: str) -> str:
    """A label value that is safe to expose: bounded in length, encodable, and unique for each value."""
    if len(value) > LONGEST_LABEL:
        digest = blake2s(value.encode(errors="surrogatepass"), digest_size=4).hexdigest()
        value = f"{value[: LONGEST_LABEL - len(digest) - 1]}…{digest}"
    return value if value.isascii() else value.translate(_SURROGATES)


def label_text(**labels: str) -> str:
    """``name="mail",queue_name="default"``, escaped, without braces."""
    return ",".join(f'{name}="{value.translate(_ESCAPES)}"' for name, value in labels.items())


def number(value: float) -> str:
    """A sample value in the text formats."""
    if isinstance(value, int):
        return str(int(value))
    if isnan(value):
        return "NaN"
    if isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return repr(value)


@dataclass
class Family:
    """One metric with its sample lines, in the form common to both text formats.

    A counter's ``name`` has no ``_total``; its sample lines have it.

    Attributes:
        created: for a counter, when each line's series began, in epoch seconds; empty if that is not exposed.
    """

    name: str
    kind: str
    help: str
    lines: list[str] = field(default_factory=list)
    created: list[float] = field(default_factory=list)

    def add(self, value: float, labels: str = "") -> None:
        """Add the sample of a gauge or counter."""
        name = f"{self.name}_total" if self.kind == "counter" else self.name
        self.lines.append(f"{name}{{{labels}}} {number(value)}" if labels else f"{name} {number(value)}")


def gauge(name: str, help_: str, samples: Iterable[tuple[str, float]]) -> Family:
    """A gauge from (label text, value) pairs."""
    family = Family(name, "gauge", help_)
    for labels, value in samples:
        family.add(value, labels)
    return family


def counter(name: str, help_: str, samples: Iterable[tuple[str, float]]) -> Family:
    """A counter from (label text, value) pairs; ``name`` without ``_total``."""
    family = Family(name, "counter", help_)
    for labels, value in samples:
        family.add(value, labels)
    return family


def created_line(line: str, name: str, created: float) -> str:
    """The OpenMetrics sample with the time at which a counter's series began, from its own sample line."""
    labels = line[len(name) + len("_total") :].rpartition(" ")[0]
    return f"{name}_created{labels} {created!r}"
