"""The status pages: what they show about each database and backup, and that nothing from outside becomes markup."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyrage
import pytest

from backup.catalogue import layout
from backup.catalogue.document import encode
from backup.catalogue.hold import Hold
from backup.catalogue.manifest import Manifest, Table
from backup.catalogue.records import Difference
from backup.physical.coverage import Period
from backup.service import pages, status_page, summary
from backup.service.state import Job, State, new_state
from backup.settings import BackupSettings
from backup.store import LocalStore
from backup.wiring import wire
from sidecar.web import Request, Response
from tests.backup import documents
from tests.backup.documents import NOW, attempt, manifest, put, put_attempt, report
from tests.sidecar.markup import HOSTILE, Page

STAGES = {"download": 3.0, "restore": 60.0, "compare": 2.0}
DAY = timedelta(days=1)
DIFFERENCE = Difference(kind="rows", object="public.orders", expected="2", found="1")


class Service:
    """The pages of a service that has read a store; no database is reached."""

    def __init__(self, folder: Path, *names: str, **more: str) -> None:
        folder.mkdir()
        self.store = LocalStore(folder, "main")
        urls = ",".join(f"{name}=postgres://backup@nowhere/{name}" for name in names)
        settings = {"BACKUP_DATABASE_URLS": urls, "BACKUP_STORE_URL": f"file://{folder}", **more}
        wiring = wire(BackupSettings.load(settings))
        object.__setattr__(wiring, "clock", lambda: NOW)
        self.state: State = new_state(wiring)
        self.state.jobs["backup"] = Job("backup", next_run=NOW + timedelta(hours=14))

    def get(self, path: str) -> Response:
        self.state.refresh()
        routes = pages.routes(self.state)
        folder = f"{path.rpartition('/')[0]}/*"
        return routes[path if path in routes else folder](Request(path, {}, {}))

    def page(self, path: str) -> Page:
        return Page(self.get(path).body)

    def json(self) -> Any:
        return json.loads(self.get("/api/status").body)

    def proven(self, database: str, age: timedelta, **more: Any) -> Manifest:
        """A backup, with a verification that passed."""
        made = manifest(NOW - age, database=database, **more)
        put(self.store, made, proven=False)
        self.report(made)
        return made

    def report(self, made: Manifest, **more: Any) -> None:
        found = report(made, **{"stages": STAGES, **more})
        self.store.put(layout.report(made.database, made.id, found.finished), encode(found))


@pytest.fixture
def service(tmp_path: Path) -> Service:
    return Service(tmp_path / "store", "bare", "crm", "shop")


def well(service: Service, database: str) -> list[Manifest]:
    return [service.proven(database, age, size=2_000_000) for age in (2 * DAY, DAY, DAY / 8)]


def test_the_first_page_has_a_line_for_each_database_and_the_worst_is_first(service: Service) -> None:
    well(service, "crm")
    service.proven("shop", DAY)
    put(service.store, manifest(NOW - DAY / 24, database="shop"), proven=False)
    put_attempt(
        service.store, attempt(NOW, database="shop", outcome="failure", error="disk full", hint="free it")
    )
    page = service.page("/")
    assert "2 of 3 need attention: bare, shop" in page.text
    assert page.text.index("bare needs attention none never") < page.text.index("shop needs attention")
    assert (
        "shop needs attention 1 h 00 min ago 1 d 0 h ago 10 B 1 min 03 s 1 d 0 h in 14 h 00 min" in page.text
    )
    assert "crm well 3 h 00 min ago 3 h 00 min ago 2.0 MB 1 min 03 s 3 h 00 min in 14 h 00 min" in page.text
    assert "the last run failed: disk full – try: free it" in page.text
    # Without a proven backup, everything could be lost.
    assert "everything" in page.text
    assert {"/database/crm", "/api/status", "/metrics"} <= page.links


def test_all_is_well_appears_only_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    service = Service(tmp_path / "store", "crm")
    assert "All is well" not in service.page("/").text
    well(service, "crm")
    # This service does not encrypt, and a page must not contradict itself.
    page = service.page("/").text
    assert "All is well: 1" not in page
    assert "Every database has a proven backup, but the service itself needs attention" in page
    assert service.json()["verdict"] == "bad"
    for module in (status_page, summary):
        monkeypatch.setattr(module, "general_problems", lambda _: [])
    assert "All is well: 1 with a proven backup" in service.page("/").text
    assert service.json()["verdict"] == "good"


def test_a_backup_unlike_the_others_is_to_be_looked_at(service: Service) -> None:
    for name in ("bare", "crm"):
        well(service, name)
    for age in (2 * DAY, DAY):
        service.proven("shop", age)
    unlike = service.proven("shop", DAY / 8, anomalies=("rows of public.orders fell from 60,000 to 0",))
    page = service.page("/")
    assert "Every database has a proven backup. Look at: shop" in page.text
    assert "rows of public.orders fell from 60,000 to 0" in page.text
    assert "Unlike the backups before it" in service.page(f"/backup/{unlike.id}").text
    newest = {each["name"]: each["newest"] for each in service.json()["databases"]}
    assert newest["shop"]["unlike"] is True
    assert newest["shop"]["anomalies"] == ["rows of public.orders fell from 60,000 to 0"]
    assert (newest["crm"]["unlike"], newest["crm"]["anomalies"]) == (False, [])


def test_the_history_is_drawn_and_the_rest_is_a_link_away(service: Service) -> None:
    made = [service.proven("crm", DAY * age, size=1000 + age) for age in range(25, 0, -1)]
    source = service.get("/").body.decode()
    assert source.count("<svg") == 3
    assert source.count(f'<a href="/backup/{made[0].id}"') == 1
    page = service.page("/")
    assert "25 backups, 25 verified" in page.text
    assert "all 25" in page.text
    whole = service.page("/database/crm")
    assert {f"/backup/{each.id}" for each in made} <= whole.links


def test_the_page_of_a_backup_has_what_its_verification_found(service: Service) -> None:
    first, made = (
        service.proven("shop", DAY),
        service.proven(
            "shop",
            DAY / 8,
            size=5_000_000,
            stages={"dump": 12.0},
            tables=(
                Table(schema="public", name="orders", rows=41_000),
                Table(schema="public", name="carts", rows=7),
            ),
        ),
    )
    service.report(
        made,
        finished=NOW,
        ok=False,
        tables=20,
        rows=41_007,
        server="18.6",
        differences=(Difference(kind="rows", object="public.orders", expected="41,000", found="40,998"),),
    )
    page = service.page(f"/backup/{made.id}")
    assert "Its verification failed: 1 difference" in page.text
    assert "rows public.orders 41,000 40,998" in page.text
    # In the order in which they happen, however the document has them.
    assert "stage took download 3.0 s restore 1 min 00 s compare 2.0 s" in page.text
    assert "stage took dump 12.0 s" in page.text
    assert f"python -m backup restore {made.id} -d shop" in page.text
    assert page.text.index("public.orders 41,000") < page.text.index("public.carts 7")
    assert f"/backup/{first.id}" in page.links
    assert "Restored and compared on" in service.page(f"/backup/{first.id}").text


def test_the_page_of_a_backup_names_all_that_it_leaves_out(service: Service) -> None:
    left_out = {
        "notes": ("the server was a standby",),
        "excluded_tables": ("public.sessions",),
        "excluded_rows": ("public.events: older than 30 days",),
    }
    made = service.proven("shop", DAY, **left_out)
    text = service.page(f"/backup/{made.id}").text
    assert f"Left out {' '.join(each for (each,) in left_out.values())}" in text


@pytest.mark.parametrize(
    ("found", "verdict", "restored"),
    [
        ({}, "Restored and compared on", "restore took 1 min 03 s"),
        (
            {"ok": False, "differences": (DIFFERENCE,)},
            "Its verification failed: 1 difference",
            "restore took –",
        ),
        ({"ok": False, "unprovable": ("no pgvector",)}, "It could not be verified here", "restore took –"),
        (None, "Not verified yet", "restore took –"),
    ],
    ids=["passed", "failed", "unprovable", "unverified"],
)
def test_only_a_restore_that_was_proven_has_a_duration(
    service: Service, found: dict[str, Any] | None, verdict: str, restored: str
) -> None:
    made = manifest(NOW - DAY)
    put(service.store, made, proven=False)
    if found is not None:
        service.report(made, **found)
    text = service.page(f"/backup/{made.id}").text
    assert verdict in text
    assert restored in text
    assert "encrypted NOT encrypted" in text


def test_the_newest_proof_says_how_long_a_restore_takes(service: Service) -> None:
    well(service, "crm")
    (made,) = (service.proven("shop", DAY),)
    service.report(made, finished=NOW, stages={"download": 1.0, "restore": 4.0})
    assert "restore took 5.0 s" in service.page(f"/backup/{made.id}").text
    assert "verified 5.0 s main" in service.page("/database/shop").text


@pytest.mark.parametrize("path", ["/backup/nothing", "/database/nothing", "/backup/%3Cscript%3E"])
def test_what_is_not_there_is_not_found(service: Service, path: str) -> None:
    response = service.get(path)
    assert response.status == 404
    assert "/" in Page(response.body).links


def test_the_same_as_json(service: Service) -> None:
    made = well(service, "crm")
    found = service.json()
    assert found["verdict"] == "bad"
    assert found["encrypted"] is False
    assert [each["name"] for each in found["databases"]] == ["bare", "shop", "crm"]
    bare, _, crm = found["databases"]
    assert (bare["newest"], bare["at_risk_seconds"]) == (None, None)
    assert bare["problems"] == ["there is no backup yet"]
    assert crm["verdict"] == "good"
    assert crm["newest"]["id"] == crm["newest_verified"]["id"] == made[-1].id
    assert (crm["backups"], crm["verified"], crm["stored_bytes"]) == (3, 3, 6_000_000)
    assert crm["at_risk_seconds"] == 3 * 3600
    assert crm["restore_seconds"] == 63
    assert crm["next_run"] == "2026-11-28T02:00:00+00:00"
    assert found["schedules"] == [{"name": "backup", "next_run": crm["next_run"], "last_run": None}]


def test_nothing_from_outside_becomes_markup(service: Service) -> None:
    """Names come from a database, errors from a server, and a store may contain anything."""
    text = HOSTILE.replace("\ud800", "").replace("\x00", "")
    made = service.proven(
        "shop",
        DAY,
        anomalies=(text,),
        notes=(text,),
        tool=text,
        client=text,
        recipients=(text,),
        excluded_rows=(text,),
        server=documents.SERVER.model_copy(update={"version": text, "product": text}),
        stages={text: 1.0},
        tables=(Table(schema=text, name=text, rows=1),),
    )
    service.report(
        made,
        ok=False,
        finished=NOW,
        notes=(text,),
        server=text,
        differences=(Difference(kind=text, object=text, expected=text, found=text),),
    )
    service.report(made, ok=False, finished=NOW + DAY, unprovable=(text,))
    hold = Hold(backup=made.id, database="shop", held=True, moment=NOW, host=text, reason=text)
    service.store.put(layout.hold("shop", made.id), encode(hold))
    put_attempt(service.store, attempt(NOW, outcome="failure", error=text, hint=text))
    service.state.refresh()
    service.state.problems = {"main": text}
    routes = pages.routes(service.state)
    for path, route in (("/", "/"), ("/database/shop", "/database/*"), (f"/backup/{made.id}", "/backup/*")):
        page = Page(routes[route](Request(path, {}, {})).body)
        assert "<script>alert(1)" in page.text, path
    assert json.loads(routes["/api/status"](Request("/api/status", {}, {})).body)["problems"]


def test_endless_findings_are_cut(service: Service) -> None:
    tables = tuple(Table(schema="public", name=f"t{number:05}", rows=1) for number in range(3000))
    made = service.proven("shop", DAY, tables=tables)
    differences = tuple(
        Difference(
            kind="rows", object=each.label, expected="1" * 100_000 if each is tables[0] else "1", found="0"
        )
        for each in tables
    )
    service.report(made, ok=False, finished=NOW, differences=differences)
    body = service.get(f"/backup/{made.id}").body
    assert len(body) < 200_000
    assert "and 2,800 more differences" in Page(body).text
    assert len(service.get("/").body) < 100_000


def test_what_a_server_could_lose_is_the_age_of_its_newest_stored_wal(tmp_path: Path) -> None:
    service = Service(
        tmp_path / "store",
        "shop",
        BACKUP_SERVERS="cluster=postgres://backup@nowhere/postgres",
        BACKUP_AGE_RECIPIENTS=str(pyrage.x25519.Identity.generate().to_public()),
    )
    assert "not known" in service.page("/").text
    service.state.recoverable = {
        "cluster": (
            Period(NOW - 9 * DAY, NOW - 5 * DAY, open=False),
            Period(NOW - 3 * DAY, NOW - timedelta(seconds=2), open=True),
        )
    }
    assert "2.0 s" in service.page("/").text
    assert "WAL is missing" in service.page("/database/cluster").text
    found = next(each for each in service.json()["databases"] if each["name"] == "cluster")
    assert found["at_risk_seconds"] == 2
    assert [(each["earliest"][:10], each["latest"][:10]) for each in found["recoverable"]] == [
        ("2026-11-18", "2026-11-22"),
        ("2026-11-24", "2026-11-27"),
    ]
