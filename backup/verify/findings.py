"""What a verification has found so far."""

from dataclasses import dataclass, field

from backup.catalogue.records import Difference
from backup.load.pg_restore import Refusals
from backup.progress import Progress, Timings, silent


@dataclass
class Findings:
    """What a verification has found so far.

    Attributes:
        progress: called with the bytes that are done; see :func:`backup.verify.verifier.expected_bytes`.
    """

    progress: Progress = silent
    stages: Timings = field(default_factory=Timings)
    differences: list[Difference] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    refusals: Refusals = field(default_factory=Refusals)
    # How this host differs from the original, and why the verification is therefore inconclusive.
    suspicions: list[str] = field(default_factory=list)
    unprovable: list[str] = field(default_factory=list)
    # See the report.
    measures: dict[str, float] = field(default_factory=dict)
