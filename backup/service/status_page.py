"""The status page: what a person wants to know first."""

from collections.abc import Iterable
from datetime import datetime
from html import escape

from backup.catalogue.reader import CLOCK_TOLERANCE, Entry, History
from backup.catalogue.records import Report
from backup.confinement import strength
from backup.prune import plan_for
from backup.service.state import State
from sidecar.humanize import duration, moment, size

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 68rem; padding: 0 1rem; color: #1d2330 }
table { border-collapse: collapse; width: 100% } th, td { text-align: left; padding: .3rem .8rem .3rem 0 }
th { border-bottom: 1px solid #c8cdd6 } .good { color: #18794e } .bad { color: #b42318; font-weight: 600 }
.warn { color: #8a5a00; font-weight: 600 }
.dim { color: #667085 } h1 { font-size: 1.4rem } h2 { font-size: 1.1rem; margin-top: 2rem }
@media (prefers-color-scheme: dark) { body { background: #14171f; color: #e4e7ec } }
"""
SHOWN = 30


def render(state: State) -> str:
    """The page as HTML."""
    now = state.wiring.clock()
    sections = [_database(state, state.history(target.name), now) for target in state.wiring.everything]
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta http-equiv="refresh" content="30">'
        f"<title>Backups</title><style>{_STYLE}</style><h1>Backups</h1>"
        f"{_stores(state)}{''.join(sections)}{_schedules(state)}"
        f'<p class="dim">Store read {moment(state.catalogue.read)} · <a href="/metrics">metrics</a></p></html>\n'
    )


def problems(state: State, history: History, now: datetime) -> list[str]:
    """The problems of a database's backups, in words."""
    found = [f"backup {broken.id}: {broken.error.message}" for broken in history.broken]
    found += _strange(history)
    last = history.newest("backup", finished=True)
    if state.died(history) is not None:
        found.append("the last run was killed – try: see its log")
    elif last is not None and last.outcome == "failure":
        found.append(f"the last run failed: {last.error} – try: {last.hint}")
    if history.latest is None:
        return [*found, "there is no backup yet"]
    age = (now - history.latest.manifest.taken).total_seconds()
    if age > state.wiring.settings.rpo_target:
        found.append(
            f"the newest backup is {duration(age)} old, the target is {duration(state.wiring.settings.rpo_target)}"
        )
    found += _of_verification(history.last_report)
    if history.last_verified is None:
        found.append("no backup is verified yet")
    found += [f"pruning is blocked: {reason}" for reason in plan_for(state.wiring, history).blocked]
    if (
        state.wiring.offsite is not None
        and state.offsite.lag(history, now) > state.wiring.settings.rpo_target
    ):
        found.append(f"the off-site copy is {duration(state.offsite.lag(history, now))} behind")
    found += [
        f"{entry.id} differs from the backups before it: {anomaly}"
        for entry in reversed(history.backups)
        for anomaly in entry.manifest.anomalies
    ]
    return found


def _strange(history: History) -> list[str]:
    """What is not ours, and what is not from the past."""
    found = [f"backup {entry.id} is {entry.state} and counts for nothing" for entry in history.others]
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


def _stores(state: State) -> str:
    lines = [
        f"<li>{escape(store.name)}: {escape(store.url)}{_trouble(state, store.name)}</li>"
        for store in state.wiring.stores
    ]
    if not state.wiring.packing.recipients:
        lines.append('<li class="bad">Backups are NOT encrypted: BACKUP_AGE_RECIPIENTS is not set.</li>')
    if not strength().confined:
        lines.append(
            '<li class="bad">Restored content is NOT confined: this kernel has no Landlock.'
            " What runs in a restored database could read the keys of this service.</li>"
        )
    return f"<ul>{''.join(lines)}</ul>"


def _trouble(state: State, store: str) -> str:
    problem = state.problems.get(store)
    return f' – <span class="bad">{escape(problem)}</span>' if problem else ""


def _database(state: State, history: History, now: datetime) -> str:
    wrong = problems(state, history, now)
    running = state.running(history)
    since = f"<p>Running since {moment(running.started)}.</p>" if running else ""
    verdict = "".join(f'<li class="bad">{escape(text)}</li>' for text in wrong)
    verdict = f"<ul>{verdict}</ul>" if wrong else '<p class="good">All is well.</p>'
    entries = list(reversed(history.backups))[:SHOWN]
    rows = "".join(_row(entry, now) for entry in entries)
    head = _cells(("backup", "age", "stored", "rows", "state", "restore took", "where"), "th")
    return f"<h2>{escape(history.database)}</h2>{since}{verdict}<table><tr>{head}</tr>{rows}</table>"


def _row(entry: Entry, now: datetime) -> str:
    manifest, report = entry.manifest, entry.report
    restored = duration(report.restore_seconds) if report and report.ok else "–"
    kind = (
        "warn"
        if entry.unlike
        else "good"
        if entry.verified
        else "bad"
        if entry.state in {"FAILED", "incomplete"}
        else "dim"
    )
    age = duration((now - manifest.taken).total_seconds())
    plain = _cells((entry.id, age, size(manifest.stored_bytes), f"{manifest.rows:,}"), "td")
    return f'<tr>{plain}<td class="{kind}">{entry.label}</td><td>{restored}</td><td>{entry.store}</td></tr>'


def _schedules(state: State) -> str:
    rows = "".join(
        f"<tr>{_cells((job.name, _time(job.next_run), _time(job.last_run)), 'td')}</tr>"
        for job in state.jobs.values()
    )
    return f"<h2>Schedules</h2><table><tr>{_cells(('what', 'next', 'last'), 'th')}</tr>{rows}</table>"


def _time(value: datetime | None) -> str:
    return value.strftime("%Y-%m-%d %H:%M %Z") if value else "–"


def _cells(texts: Iterable[str], tag: str) -> str:
    return "".join(f"<{tag}>{escape(text)}</{tag}>" for text in texts)
