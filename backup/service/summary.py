"""A summary of each database: the status page shows it, and ``/api/status`` returns it as JSON."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from backup import __version__
from backup.catalogue.history import CLOCK_TOLERANCE, Entry, History, projected_rto
from backup.catalogue.records import Attempt, Report
from backup.confinement import strength
from backup.physical.coverage import Period
from backup.prune import plan_for
from backup.service.state import SILENT_SECONDS, Job, State
from backup.targets import ServerTarget, Target
from sidecar.humanize import duration

Verdict = Literal["bad", "warn", "good"]
ORDER: tuple[Verdict, ...] = ("bad", "warn", "good")


@dataclass(frozen=True)
class Problem:
    """One sentence about what is wrong; ``warn`` if it does not endanger a restore."""

    kind: Verdict
    text: str


@dataclass(frozen=True)
class Summary:
    """One database or server at one moment. Seconds are None if they are not known.

    Attributes:
        at_risk: what would be lost if the server were lost now: the age of the data in the newest proven backup.
            For a server, the time since its newest WAL was stored; None until the WAL was read.
        recoverable: the periods of a server that can be recovered.
        restore_seconds: duration of the last restore that was proven, scaled to the size of the newest backup.
        next_run: of the next backup.
    """

    target: Target
    history: History
    problems: tuple[Problem, ...]
    running: Attempt | None
    age: float | None
    at_risk: float | None
    restore_seconds: float | None
    next_run: datetime | None
    recoverable: tuple[Period, ...] = ()

    @property
    def name(self) -> str:
        return self.target.name

    @property
    def verdict(self) -> Verdict:
        return next((kind for kind in ORDER if any(each.kind == kind for each in self.problems)), "good")

    @property
    def stored_bytes(self) -> int:
        """Size of all its backups in the store."""
        return sum(entry.manifest.stored_bytes for entry in self.history.backups)

    @property
    def verified(self) -> int:
        """Number of verified backups."""
        return sum(entry.verified for entry in self.history.backups)


def summaries(state: State) -> list[Summary]:
    """Everything that has backups, the worst first."""
    now = state.wiring.clock()
    found = [summary(state, target, now) for target in state.wiring.everything]
    return sorted(found, key=lambda each: (ORDER.index(each.verdict), each.name))


def summary(state: State, target: Target, now: datetime) -> Summary:
    history = state.history(target.name)
    held = [report for report in history.reports if report.ok]
    found = state.recoverable.get(target.name, ())
    at_risk = _age(history.last_verified, now)
    if isinstance(target, ServerTarget):
        at_risk = max(0.0, (now - found[-1].latest).total_seconds()) if found else None
    backup_job = state.jobs.get("backup")
    return Summary(
        target,
        history,
        tuple(problems(state, history, now)),
        state.running(history),
        _age(history.latest, now),
        at_risk,
        projected_rto(history, held) or None,
        backup_job.next_run if backup_job else None,
        tuple(found),
    )


def _age(entry: Entry | None, now: datetime) -> float | None:
    return (now - entry.manifest.taken).total_seconds() if entry else None


def problems(state: State, history: History, now: datetime) -> list[Problem]:
    """The problems of a database's backups, in words."""
    bad = [f"backup {broken.id}: {broken.error.message}" for broken in history.broken]
    bad += _strange(history)
    if (silence := state.silence(history.database)) > SILENT_SECONDS:
        bad.append(
            f"the run or verification in progress has had no response for {duration(silence)} – try: check the server and the store"
        )
    last = history.newest("backup", finished=True)
    if state.died(history) is not None:
        bad.append("the last run was killed – try: see its log")
    elif last is not None and last.outcome == "failure":
        bad.append(f"the last run failed: {last.error} – try: {last.hint}")
    if history.latest is None:
        return _all("bad", [*bad, "there is no backup yet"])
    age = (now - history.latest.manifest.taken).total_seconds()
    target = state.wiring.settings.rpo_target
    if age > target:
        bad.append(f"the newest backup is {duration(age)} old, the target is {duration(target)}")
    bad += _of_verification(history.last_report)
    if history.last_verified is None:
        bad.append("no backup is verified yet")
    if state.wiring.offsite is not None and state.offsite.lag(history, now) > target:
        bad.append(f"the off-site copy is {duration(state.offsite.lag(history, now))} behind")
    warn = [f"pruning is blocked: {reason}" for reason in plan_for(state.wiring, history).blocked]
    warn += [
        f"{entry.id} differs from the backups before it: {anomaly}"
        for entry in reversed(history.backups)
        for anomaly in entry.manifest.anomalies
    ]
    return [*_all("bad", bad), *_all("warn", warn)]


def _all(kind: Verdict, texts: Iterable[str]) -> list[Problem]:
    return [Problem(kind, text) for text in texts]


def _strange(history: History) -> list[str]:
    """Problems with backups that are not ours, or are dated in the future."""
    found = [f"backup {entry.id} is {entry.state} and is ignored" for entry in history.others]
    if history.seconds_ahead > CLOCK_TOLERANCE.total_seconds():
        ahead = duration(history.seconds_ahead)
        found.append(f"the newest backup is {ahead} ahead of this clock: one of the clocks is wrong")
    return found


def _of_verification(report: Report | None) -> list[str]:
    if report is None or report.ok:
        return []
    if report.unprovable:
        return [f"{report.backup} could not be verified here: {reason}" for reason in report.unprovable]
    return [f"verification of {report.backup} failed: {difference}" for difference in report.differences]


def general_problems(state: State) -> list[str]:
    """What is wrong with the service itself."""
    found = [f"the {name} store: {problem}" for name, problem in state.problems.items() if problem]
    if not state.wiring.packing.recipients:
        found.append("backups are NOT encrypted: BACKUP_AGE_RECIPIENTS is not set")
    if not strength().confined:
        found.append(
            "restored content is NOT confined: this kernel has no Landlock, so what runs in a restored database could "
            "read the keys of this service"
        )
    return found


def document(state: State) -> dict[str, Any]:
    """The whole summary for programs. Times are in ISO 8601, sizes in bytes, durations in seconds."""
    settings, found = state.wiring.settings, summaries(state)
    general = general_problems(state)
    verdicts = {*(each.verdict for each in found), *(["bad"] if general else [])}
    return {
        "version": __version__,
        "read": _text(state.catalogue.read),
        "verdict": next((kind for kind in ORDER if kind in verdicts), "good"),
        "problems": general,
        "encrypted": bool(state.wiring.packing.recipients),
        "rpo_target_seconds": settings.rpo_target,
        "rto_target_seconds": settings.rto_target,
        "stores": [
            {"name": store.name, "url": store.url, "problem": state.problems.get(store.name)}
            for store in state.wiring.stores
        ],
        "databases": [_database(each) for each in found],
        "schedules": [_schedule(job) for job in state.jobs.values()],
    }


def _database(each: Summary) -> dict[str, Any]:
    history = each.history
    return {
        "name": each.name,
        "kind": each.target.kind,
        "verdict": each.verdict,
        "problems": [problem.text for problem in each.problems],
        "running_since": _text(each.running.started if each.running else None),
        "age_seconds": _rounded(each.age),
        "at_risk_seconds": _rounded(each.at_risk),
        "restore_seconds": _rounded(each.restore_seconds),
        "next_run": _text(each.next_run),
        "backups": len(history.backups),
        "verified": each.verified,
        "stored_bytes": each.stored_bytes,
        "recoverable": [
            {"earliest": _text(stretch.earliest), "latest": _text(stretch.latest)}
            for stretch in each.recoverable
        ],
        "newest": _entry(history.latest),
        "newest_verified": _entry(history.last_verified),
    }


def _entry(entry: Entry | None) -> dict[str, Any] | None:
    if entry is None:
        return None
    manifest, report = entry.manifest, entry.report
    return {
        "id": entry.id,
        "taken": _text(manifest.taken),
        "state": entry.state,
        "unlike": entry.unlike,
        "anomalies": list(manifest.anomalies),
        "on_hold": entry.on_hold,
        "store": entry.store,
        "stored_bytes": manifest.stored_bytes,
        "raw_bytes": manifest.raw_bytes,
        "rows": manifest.rows,
        "seconds": _rounded(manifest.seconds),
        "verified_at": _text(report.finished if report and report.ok else None),
        "restore_seconds": _rounded(report.restore_seconds if report and report.ok else None),
    }


def _schedule(job: Job) -> dict[str, Any]:
    return {"name": job.name, "next_run": _text(job.next_run), "last_run": _text(job.last_run)}


def _text(value: datetime | None) -> str | None:
    return value.isoformat() if value else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
