"""The status pages: a summary first, then each database and its history."""

from collections.abc import Sequence
from datetime import datetime
from html import escape

from backup.catalogue.history import Entry
from backup.physical.coverage import Period
from backup.service.state import State
from backup.service.summary import Summary, general_problems, summaries
from backup.targets import ServerTarget
from sidecar import html, svg
from sidecar.html import text
from sidecar.humanize import counted, duration, moment, size

# Maximum number of backups in a database's table on the first page, of bars in its charts, and of backups on its own page.
SHOWN = 10
CHARTED = 60
MAX_LISTED = 1000
# Maximum number of sentences about one database on the first page.
MAX_PROBLEMS = 8
KINDS = {"bad": "needs attention", "warn": "look at it", "good": "well"}


def render(state: State) -> str:
    """The content of the first page."""
    found, general = summaries(state), general_problems(state)
    return "".join(
        (
            _headline(found, general),
            "".join(html.notice("bad", problem) for problem in general),
            _overview(found, state.wiring.clock()),
            *(_database(state, each) for each in found),
            _schedules(state),
            _footer(state),
        )
    )


def render_database(state: State, name: str) -> str | None:
    """The content of the page that lists all backups of a database; None: there is no such database."""
    each = next((summary for summary in summaries(state) if summary.name == name), None)
    if each is None:
        return None
    entries = list(reversed((*each.history.backups, *each.history.others)))[:MAX_LISTED]
    total = len(each.history.backups) + len(each.history.others)
    more = f'<p class="dim">and {total - len(entries):,} older ones</p>' if total > len(entries) else ""
    back = f"<nav>{html.link('/', 'all databases')}</nav>"
    return f"{back}{_problems(each, len(each.problems))}{_recoverable(each.recoverable)}{_charts(each)}{_table(entries, state.wiring.clock())}{more}"


def kind_of(entry: Entry) -> str:
    """The class of a backup's state in the style sheet."""
    if entry.unlike and entry.verified:
        return "warn"
    if entry.verified:
        return "good"
    return "dim" if entry.state in {"unverified", "unprovable"} else "bad"


def address_of(entry: Entry) -> str:
    """The page of a backup."""
    return f"/backup/{entry.id}"


def _headline(found: Sequence[Summary], general: Sequence[str]) -> str:
    wrong = [each.name for each in found if each.verdict == "bad"]
    if wrong:
        return html.notice("bad", f"{len(wrong)} of {len(found)} need attention: {', '.join(wrong)}")
    doubtful = [each.name for each in found if each.verdict == "warn"]
    if doubtful:
        return html.notice("warn", f"Every database has a proven backup. Look at: {', '.join(doubtful)}")
    if not found:
        return html.notice("warn", "No database is configured")
    if general:
        return html.notice(
            "warn", "Every database has a proven backup, but the service itself needs attention"
        )
    return html.notice("good", f"All is well: {len(found)} with a proven backup, 0 problems")


def _overview(found: Sequence[Summary], now: datetime) -> str:
    heads = (
        "database",
        "state",
        "last backup",
        "proven",
        "size",
        "restore takes",
        "could be lost",
        "next backup",
    )
    return html.table(heads, [_line(each, now) for each in found], kind="stack")


def _line(each: Summary, now: datetime) -> Sequence[str]:
    latest, proven = each.history.latest, each.history.last_verified
    state = html.marked(KINDS[each.verdict], each.verdict)
    if each.running:
        state += f" {html.marked('running', 'dim')}"
    return (
        html.link(f"/database/{each.name}", each.name),
        state,
        f"{_ago(latest, now)}" if latest else html.marked("none", "bad"),
        _ago(proven, now) if proven else html.marked("never", "bad"),
        text(size(latest.manifest.stored_bytes)) if latest else "–",
        _seconds(each.restore_seconds),
        _at_risk(each),
        text(_until(each.next_run, now)),
    )


def _at_risk(each: Summary) -> str:
    if isinstance(each.target, ServerTarget) and each.at_risk is None:
        return html.marked("not known", "dim")
    return text(duration(each.at_risk)) if each.at_risk is not None else html.marked("everything", "bad")


def _ago(entry: Entry, now: datetime) -> str:
    age = (now - entry.manifest.taken).total_seconds()
    return f'<a href="{address_of(entry)}" title="{text(moment(entry.manifest.taken))}">{text(duration(age))} ago</a>'


def _until(value: datetime | None, now: datetime) -> str:
    if value is None:
        return "–"
    left = (value - now).total_seconds()
    return f"in {duration(left)}" if left > 0 else "now"


def _database(state: State, each: Summary) -> str:
    history, now = each.history, state.wiring.clock()
    running = f"<p>Running since {moment(each.running.started)}.</p>" if each.running else ""
    well = "" if each.problems else '<p class="good">All is well.</p>'
    entries = list(reversed(history.backups))[:SHOWN]
    total = len(history.backups)
    sums = f"{counted(total, 'backup')}, {each.verified:,} verified, {size(each.stored_bytes)} stored"
    more = f" · {html.link(f'/database/{each.name}', f'all {total:,}')}" if total > len(entries) else ""
    return (
        f'<h2 id="{escape(each.name)}">{text(each.name)}</h2>{running}{well}{_problems(each, MAX_PROBLEMS)}'
        f'{_recoverable(each.recoverable)}{_charts(each)}{_table(entries, now)}<p class="dim">{sums}{more}</p>'
    )


def _recoverable(found: Sequence[Period]) -> str:
    """The periods that can be recovered, on a line and in words; a gap has another colour."""
    if not found:
        return ""
    parts: list[tuple[datetime, datetime, str]] = []
    for each in found:
        if parts:
            parts.append((parts[-1][1], each.earliest, "bad"))
        parts.append((each.earliest, each.latest, "good"))
    words = {"good": "any moment can be recovered", "bad": "nothing can be recovered: WAL is missing"}
    lines = [
        (f"{moment(begin)} to {moment(end)}: {words[kind]}", begin, end, kind) for begin, end, kind in parts
    ]
    shown = [svg.Span(begin.timestamp(), end.timestamp(), kind, line) for line, begin, end, kind in lines]
    drawn = svg.spans(shown, "What can be recovered", begin=shown[0].begin, end=shown[-1].end)
    items = "".join(
        f"<li>{html.marked(line, 'bad') if kind == 'bad' else text(line)}</li>"
        for line, _, _, kind in reversed(lines)
    )
    return f"{drawn}<ul>{items}</ul>"


def _problems(each: Summary, most: int) -> str:
    parts = []
    for kind, head in (("bad", "Needs attention"), ("warn", "Look at this")):
        found = [problem.text for problem in each.problems if problem.kind == kind]
        if found:
            more = [f"and {len(found) - most} more"] if len(found) > most else []
            parts.append(html.notice(kind, head, [*found[:most], *more]))
    return "".join(parts)


def _charts(each: Summary) -> str:
    """The history of sizes, proofs and restore times; nothing before the second backup."""
    entries = each.history.backups[-CHARTED:]
    if len(entries) < 2:
        return ""
    newest = entries[-1].manifest
    sizes = svg.bars(
        [
            svg.Bar(entry.manifest.stored_bytes, kind_of(entry), _tip(entry), address_of(entry))
            for entry in entries
        ],
        f"Size of the last {len(entries)} backups, coloured by their state: {size(newest.stored_bytes)} now, "
        f"{size(entries[0].manifest.stored_bytes)} then",
    )
    runs = svg.bars(
        [
            svg.Bar(entry.manifest.seconds, "plain", f"{entry.id}: {duration(entry.manifest.seconds)}")
            for entry in entries
        ],
        f"Duration of each backup: {duration(newest.seconds)} now",
    )
    restored = [(entry, _restored(entry)) for entry in entries]
    known = [seconds for _, seconds in restored if seconds is not None]
    restores = (
        svg.bars(
            [
                svg.Bar(seconds, "plain", f"{entry.id}: restored in {duration(seconds or 0)}")
                for entry, seconds in restored
            ],
            f"Duration of each restore that was proven: {duration(known[-1])} for the last one",
        )
        if known
        else ""
    )
    return f'<div class="charts">{sizes}{runs}{restores}</div>'


def _tip(entry: Entry) -> str:
    return f"{entry.id}: {size(entry.manifest.stored_bytes)}, {entry.manifest.rows:,} rows, {entry.label}"


def _restored(entry: Entry) -> float | None:
    """Seconds of the newest restore of a backup that was proven."""
    return next((report.restore_seconds for report in reversed(entry.reports) if report.ok), None)


def _table(entries: Sequence[Entry], now: datetime) -> str:
    heads = ("backup", "age", "stored", "rows", "state", "restore took", "where")
    rows = [
        (
            html.link(address_of(entry), entry.id),
            text(duration((now - entry.manifest.taken).total_seconds())),
            text(size(entry.manifest.stored_bytes)),
            f"{entry.manifest.rows:,}",
            html.marked(entry.label, kind_of(entry)),
            _seconds(_restored(entry)),
            text(entry.store),
        )
        for entry in entries
    ]
    return html.table(heads, rows, kind="stack")


def _seconds(value: float | None) -> str:
    return "–" if value is None else text(duration(value))


def _schedules(state: State) -> str:
    rows = [(text(job.name), _time(job.next_run), _time(job.last_run)) for job in state.jobs.values()]
    return f"<h2>Schedules</h2>{html.table(('what', 'next', 'last'), rows, kind='stack')}" if rows else ""


def _footer(state: State) -> str:
    stores = "".join(f"<li>{text(store.name)}: {text(store.url)}</li>" for store in state.wiring.stores)
    return (
        f"<h2>Stores</h2><ul>{stores}</ul>"
        f'<p class="dim">Store read {moment(state.catalogue.read)} · {html.link("/metrics", "metrics")} · '
        f"{html.link('/api/status', 'JSON')}</p>"
    )


def _time(value: datetime | None) -> str:
    return text(value.strftime("%Y-%m-%d %H:%M %Z")) if value else "–"
