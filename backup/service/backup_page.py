"""The page of one backup: what is in it, what its verifications found, and the commands that restore it."""

from collections.abc import Mapping, Sequence

from backup.catalogue.history import Entry, History
from backup.catalogue.manifest import Manifest, content
from backup.catalogue.records import Report
from backup.service.state import State
from backup.service.status_page import address_of, kind_of
from sidecar import html
from sidecar.html import text
from sidecar.humanize import counted, duration, moment, size

# Maximum number of lines that a page shows of each list.
MAX_TABLES = 100
MAX_DIFFERENCES = 200
MAX_REPORTS = 20
# The stages of backups and verifications, in the order in which they happen.
ORDER = ("sweep", "download", "globals", "dump", "restore", "count", "check", "compare", "checks", "commit")


def find(state: State, backup_id: str) -> tuple[History, Entry] | None:
    """A backup of any database by its whole ID."""
    for target in state.wiring.everything:
        history = state.history(target.name)
        for entry in (*history.backups, *history.others):
            if entry.id == backup_id:
                return history, entry
    return None


def render(state: State, history: History, entry: Entry) -> str:
    """The content of the page."""
    manifest = entry.manifest
    return "".join(
        (
            _navigation(history, entry),
            _verdict(entry),
            html.notice("warn", "Unlike the backups before it", manifest.anomalies) if entry.unlike else "",
            _cards(state, entry),
            _commands(entry),
            "<h2>Verifications</h2>",
            _reports(entry.reports, entry.manifest.kind),
            "<h2>Backup</h2>",
            _facts(entry),
            _stages(manifest.stages),
            _objects(manifest),
            _notes(manifest),
            _rows(manifest),
        )
    )


def _navigation(history: History, entry: Entry) -> str:
    ids = [each.id for each in history.backups]
    links = [html.link("/", "all databases"), html.link(f"/database/{history.database}", history.database)]
    if entry.id in ids:
        place = ids.index(entry.id)
        if place:
            links.append(html.link(f"/backup/{ids[place - 1]}", "the one before"))
        if place + 1 < len(ids):
            links.append(html.link(address_of(history.backups[place + 1]), "the one after"))
    return f"<nav>{' · '.join(links)}</nav>"


def _verdict(entry: Entry) -> str:
    report = entry.report
    if entry.verified and report is not None:
        head = f"Restored and compared on {moment(report.finished)}: 0 differences"
        return html.notice("good", head)
    if not entry.trusted:
        return html.notice("bad", f"It is {entry.state} and is ignored")
    if entry.missing:
        return html.notice("bad", "Objects are missing in the store", entry.missing)
    if report is None:
        return html.notice("warn", "Not verified yet")
    if report.unprovable:
        return html.notice("warn", "It could not be verified here", report.unprovable)
    return html.notice("bad", f"Its verification failed: {counted(len(report.differences), 'difference')}")


def _cards(state: State, entry: Entry) -> str:
    manifest, report = entry.manifest, entry.report
    age = (state.wiring.clock() - manifest.taken).total_seconds()
    ratio = manifest.raw_bytes / manifest.stored_bytes if manifest.stored_bytes else 0
    restored = duration(report.restore_seconds) if report and report.ok else "–"
    cards = [
        html.card("state", entry.label, f"in the {entry.store} store", kind_of(entry)),
        html.card("age of the data", duration(age), moment(manifest.taken)),
        html.card("stored", size(manifest.stored_bytes), f"of {size(manifest.raw_bytes)}, {ratio:.1f} : 1"),
        html.card(
            "rows", f"{manifest.rows:,}", counted(len(manifest.tables) or len(manifest.keyspaces), "table")
        ),
        html.card("backup took", duration(manifest.seconds)),
        html.card("restore took", restored, "measured by its verification"),
    ]
    return f'<div class="cards">{"".join(cards)}</div>'


def _commands(entry: Entry) -> str:
    name, manifest = entry.manifest.database, entry.manifest
    restore = {
        "postgres": f"python -m backup restore {entry.id} -d {name}",
        "redis": f"python -m backup restore {entry.id} -d {name} --to dump.rdb",
        "server": f"python -m backup restore {name} --at latest --to-folder /srv/recovered",
    }[manifest.kind]
    lines = [
        restore,
        f"python -m backup verify {entry.id} -d {name}",
        f"python -m backup download {entry.id} -d {name}",
        f"python -m backup show {entry.id} -d {name}",
    ]
    return (
        f"<h2>Restore it</h2><pre>{text(chr(10).join(lines))}</pre>"
        '<p class="dim">A restore goes into a new database next to the live one; '
        "nothing is replaced before <code>promote</code>.</p>"
    )


def _reports(reports: Sequence[Report], kind: str) -> str:
    if not reports:
        return '<p class="dim">There is none yet.</p>'
    shown = list(reversed(reports))[:MAX_REPORTS]
    more = (
        f'<p class="dim">and {len(reports) - len(shown)} older ones</p>' if len(reports) > len(shown) else ""
    )
    return "".join(_report(report, kind) for report in shown) + more


def _report(report: Report, kind: str) -> str:
    if report.unprovable:
        verdict = html.marked("could not be verified here", "warn")
    else:
        verdict = html.marked("passed", "good") if report.ok else html.marked("FAILED", "bad")
    server = f" in a server {text(report.server)}" if report.server else ""
    took = f"in {duration(report.verify_seconds)}: {content(kind, report.tables, report.rows)}{server}"
    reasons = "".join(f"<li>{text(reason)}</li>" for reason in (*report.unprovable, *report.notes))
    return (
        f"<h3>{moment(report.finished)} {verdict}</h3><p>{took}</p>"
        f"{f'<ul>{reasons}</ul>' if reasons else ''}{_differences(report)}{_stages(report.stages)}"
    )


def _differences(report: Report) -> str:
    if not report.differences:
        return ""
    shown = report.differences[:MAX_DIFFERENCES]
    rows = [(text(each.kind), text(each.object), text(each.expected), text(each.found)) for each in shown]
    rest = len(report.differences) - len(shown)
    more = f'<p class="dim">and {rest:,} more differences</p>' if rest else ""
    return html.table(("difference", "object", "expected", "found"), rows, kind="stack") + more


def _stages(stages: Mapping[str, float]) -> str:
    # Documents list them alphabetically.
    names = sorted(stages, key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER), name))
    rows = [(text(name), text(duration(stages[name]))) for name in names]
    return html.table(("stage", "took"), rows, numbers=(1,), kind="narrow") if rows else ""


def _facts(entry: Entry) -> str:
    manifest = entry.manifest
    hold = entry.hold
    items = [
        ("ID", f"<code>{text(entry.id)}</code>"),
        ("database", text(f"{manifest.database} ({manifest.kind})")),
        ("server", text(f"{manifest.server.product or manifest.kind} {manifest.server.version}")),
        ("started", moment(manifest.started)),
        ("finished", moment(manifest.finished)),
        ("written by", text(f"{manifest.tool}, {manifest.client}")),
        (
            "encrypted",
            text(", ".join(manifest.recipients))
            if manifest.encrypted
            else html.marked("NOT encrypted", "bad"),
        ),
        ("signature", text(entry.trust)),
    ]
    if entry.on_hold:
        why = (
            f"since {moment(hold.moment)}, from {hold.host}: {hold.reason or 'no reason given'}"
            if hold
            else "yes"
        )
        items.append(("on hold", text(why)))
    return html.definitions(items)


def _objects(manifest: Manifest) -> str:
    rows = [
        (
            text(stored.name),
            text(size(stored.raw_bytes)),
            text(size(stored.stored_bytes)),
            f"<code>{text(stored.sha256)}</code>",
        )
        for stored in manifest.objects
    ]
    return "<h3>Objects</h3>" + html.table(("object", "raw", "stored", "SHA-256"), rows, kind="stack")


def _notes(manifest: Manifest) -> str:
    left_out = (*manifest.notes, *manifest.excluded_tables, *manifest.excluded_rows)
    return html.notice("dim", "Left out", left_out) if left_out else ""


def _rows(manifest: Manifest) -> str:
    counts = [(table.label, table.rows) for table in manifest.tables]
    counts += [(f"db{space.number}", space.keys) for space in manifest.keyspaces]
    counts.sort(key=lambda each: (-each[1], each[0]))
    if not counts:
        return ""
    rows = [(text(name), f"{count:,}") for name, count in counts[:MAX_TABLES]]
    rest = len(counts) - len(rows)
    more = f'<p class="dim">and {rest:,} more</p>' if rest else ""
    return "<h3>Rows by table</h3>" + html.table(("table", "rows"), rows, numbers=(1,), kind="narrow") + more
