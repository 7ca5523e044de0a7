"""Pure parts of PITR: the server's words about its slot, uploads that overtake each other, what a proof predicts."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest

from backup.catalogue.history import Entry
from backup.catalogue.manifest import Physical
from backup.errors import ReplicationError, StoreError
from backup.physical import slot
from backup.physical.archive import Archive, Gap, Listing
from backup.physical.coverage import Candidate, Coverage, Period, expected_seconds, periods
from backup.physical.fitness import SENDERS, findings
from backup.physical.measures import Beat, Measures, Recoverable
from backup.physical.metrics import registry
from backup.physical.service import Watched, routes
from backup.physical.slot import SlotStatus
from backup.physical.spans import Span, spans
from backup.physical.targets import AtPosition, Latest
from backup.physical.upkeep import Cluster, retained_bases
from backup.physical.uploads import SILENT_SECONDS, Parcel, Uploads
from backup.physical.walsender import WalSender
from backup.physical.windows import Window
from sidecar import UsageError
from sidecar.web import Request
from tests.backup.documents import NOW, manifest, report

MIB, HOUR = 1 << 20, timedelta(hours=1)
SIZE = 16 * MIB


def saying(*row: str | None) -> slot.Ask:
    return lambda _: [row]


@pytest.mark.parametrize(("value", "cap"), [("-1", None), ("0", 0), ("64", 64 * MIB)])
def test_the_cap_of_a_slot_is_in_megabytes(value: str, cap: int | None) -> None:
    assert slot.cap(saying(value)) == cap


@pytest.mark.parametrize(
    ("row", "status"),
    [
        ((None, None, None, None, "0/20", None), SlotStatus("none", current=0x20)),
        (
            ("reserved", "0/10", "true", "5", "0/20", "16"),
            SlotStatus("reserved", 0x10, True, 5, 16, 0x20),
        ),
        # A slot that was created without a reservation.
        ((None, None, "false", None, "0/20", None), SlotStatus("lost", current=0x20)),
        (("lost", None, "false", None, "0/20", None), SlotStatus("lost", current=0x20)),
    ],
)
def test_the_status_of_a_slot_is_the_servers(row: tuple[str | None, ...], status: SlotStatus) -> None:
    assert slot.status(saying(*row)) == status


@pytest.mark.parametrize(
    ("state", "retained", "dead"),
    [
        ("lost", None, True),
        ("unreserved", 99, True),
        ("unreserved", 100, False),
        ("unreserved", None, False),
        ("extended", 99, False),
    ],
)
def test_a_slot_that_lags_little_and_is_unreserved_keeps_nothing(
    state: slot.State, retained: int | None, dead: bool
) -> None:
    assert SlotStatus(state, retained_bytes=retained).is_dead(100) == dead


@pytest.mark.parametrize("names", ["*", "other, Posthub-WAL", 'FIRST 1 ("posthub-wal", b)'])
def test_commits_that_wait_for_us_are_recognised_in_any_spelling(names: str) -> None:
    assert slot.is_synchronous(names)


@pytest.mark.parametrize(("code", "raises"), [("42704", False), ("55006", True)])
def test_only_a_slot_that_does_not_exist_needs_no_release(code: str, raises: bool) -> None:
    def drop(_: str) -> None:
        raise ReplicationError("no", hint="", sqlstate=code)

    sender = cast("WalSender", SimpleNamespace(drop_slot=drop))
    if raises:
        with pytest.raises(ReplicationError):
            slot.release(sender)
    else:
        assert slot.release(sender) is False


@pytest.mark.parametrize(
    ("level", "senders", "slots", "ok"),
    [
        ("replica", SENDERS, 1, True),
        ("logical", SENDERS, 1, True),
        ("minimal", SENDERS, 1, False),
        ("replica", SENDERS - 1, 1, False),
        ("replica", SENDERS, 0, False),
    ],
)
def test_a_server_needs_senders_for_a_base_the_stream_and_its_successor(
    level: str, senders: int, slots: int, ok: bool
) -> None:
    given = {"wal_level": level, "max_wal_senders": str(senders), "max_replication_slots": str(slots)}
    given |= {
        "max_slot_wal_keep_size": "64",
        "synchronous_standby_names": "",
        "idle_replication_slot_timeout": "0",
    }

    def query(statement: str) -> list[tuple[str, ...]]:
        if "pg_settings" not in statement:
            return [("true", "true")]
        return [(value,) for name, value in given.items() if f"'{name}'" in statement]

    found = {each.what: each.ok for each in findings(cast("WalSender", SimpleNamespace(query=query)))}
    assert found["replication"] is ok
    assert all(one for what, one in found.items() if what != "replication")


def parcels(uploads: Uploads, *ends: int) -> list[Parcel]:
    made = [Parcel(1, end - 1, end, b"x") for end in ends]
    for parcel in made:
        uploads.hand_over(parcel)
    return made


def test_only_what_is_stored_without_a_hole_is_confirmed() -> None:
    uploads = Uploads(lambda _: None, lambda _: None)
    first, second, third = parcels(uploads, 1, 2, 3)
    uploads._arrived(second)
    assert (uploads.stored, uploads.outstanding) == (0, 3)
    uploads._arrived(first)
    assert (uploads.stored, uploads.outstanding) == (2, 1)
    uploads._arrived(third)
    assert (uploads.stored, uploads.outstanding) == (3, 0)


def test_a_parcel_is_stored_again_until_the_store_takes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [StoreError("it is full", hint="", operation="put"), None]
    seen = []

    def put(_: Parcel) -> None:
        if answer := answers.pop(0):
            raise answer

    uploads = Uploads(put, lambda _: None)
    monkeypatch.setattr(uploads._abandoned, "wait", lambda _: seen.append(uploads.problem))
    (parcel,) = parcels(uploads, 1)
    assert uploads._insist(parcel)
    assert (seen, uploads.problem, answers) == (["it is full"], None, [])


def test_a_store_that_is_silent_is_a_problem_after_a_minute() -> None:
    uploads = Uploads(lambda _: None, lambda _: None)
    (parcel,) = parcels(uploads, 1)
    parcel.since -= SILENT_SECONDS - 5
    assert uploads.problem is None
    parcel.since -= 10
    assert "has not taken the WAL for 1 min 05 s" in str(uploads.problem)


def base(hours: float, start: int = SIZE, **more: Any) -> Entry:
    """A base backup that was taken some hours after :data:`NOW`."""
    made = manifest(
        NOW + hours * HOUR,
        database="main",
        kind="server",
        size=more.pop("size", 10),
        physical=Physical(timeline=1, start=start, end=start + 5, segment_size=SIZE),
    )
    return Entry(made, (report(made, **more),) if more else ())


def candidate(entry: Entry, stored: float, *, still: bool, wal: int = SIZE) -> Candidate:
    path = (Span(1, SIZE, SIZE + wal),)
    window = Window(entry.id, 1, SIZE + 5, SIZE + wal, path)
    return Candidate(entry, window, NOW + stored * HOUR, open=still)


def test_periods_end_at_gaps_and_nowhere_else() -> None:
    found = periods(
        [
            candidate(base(0), 3, still=False),
            candidate(base(2), 4, still=False),
            candidate(base(6), 9, still=True),
            candidate(base(7), 8, still=False),
        ]
    )
    assert found == (
        Period(NOW, NOW + 4 * HOUR, False),
        Period(NOW + 6 * HOUR, NOW + 9 * HOUR, True),
    )


def test_a_recovery_takes_as_long_as_the_newest_proof_that_passed_predicts() -> None:
    passed = base(0, size=100, stages={"download": 10.0, "restore": 99.0}, measures={"replay": 1_000.0})
    failed = base(1, ok=False, stages={"download": 1.0}, measures={"replay": 1.0})
    chosen = base(2, size=300)
    known = [candidate(each, 3, still=True) for each in (passed, failed, chosen)]
    wanted = candidate(chosen, 3, still=True, wal=5_000)
    assert expected_seconds(known, wanted) == 10 * 3 + 5
    assert expected_seconds(known[1:], wanted) is None


def test_the_latest_state_is_not_on_an_older_timeline() -> None:
    one = candidate(base(0), 3, still=True)
    archive = Archive("main", "7", SIZE)
    lost = Coverage(archive, Listing(), (one,), lost=(3, 4))
    with pytest.raises(UsageError, match="timeline 4 is stored, and its history is missing") as refused:
        lost.choose(Latest())
    assert "--timeline 2" in str(refused.value.hint)
    assert lost.choose(AtPosition(SIZE + 6)) == one
    assert Coverage(archive, Listing(), (one,)).choose(Latest()) == one


def test_only_a_verified_base_is_proven() -> None:
    entries = [base(0), base(1, ok=True), base(2, ok=False), Entry(manifest(NOW))]
    assert [retained.proven for retained in retained_bases(entries)] == [False, True, False]


def test_the_last_gap_is_the_one_that_was_noticed_last() -> None:
    gaps = tuple(
        Gap(
            server="main",
            system_identifier="7",
            timeline=1,
            start=at,
            end=at + 1,
            noticed=NOW + hours * HOUR,
            reason="",
        )
        for at, hours in ((1, 5), (3, 9), (5, 7))
    )
    assert Cluster(Archive("main", "7", SIZE), Listing(), gaps).last_gap == NOW + 9 * HOUR
    assert Cluster(Archive("main", "7", SIZE), Listing(), ()).last_gap is None


def test_a_gap_cuts_both_ends_of_what_is_stored() -> None:
    assert spans([Span(1, 0, 100)], [Span(1, 40, 60)]) == [Span(1, 0, 40), Span(1, 60, 100)]
    assert spans([Span(1, 0, 100)], [Span(1, 0, 60)]) == [Span(1, 60, 100)]


def test_a_service_is_ready_while_wal_arrives_and_is_stored() -> None:
    measures = Measures()
    target: Any = SimpleNamespace(name="main")
    ready: Callable[[Request], Any] = routes([Watched(target, measures)])["/readyz"]
    seen = []
    for streaming, problem in ((True, None), (False, None), (True, "the store is full")):
        measures.streaming, measures.problem = streaming, problem
        answer = ready(Request("/readyz", {}, {}))
        seen.append((int(answer.status), answer.body.decode().strip()))
    assert seen == [
        (200, "ok"),
        (503, "not ready: main: no WAL arrives"),
        (503, "not ready: main: the store is full"),
    ]


def test_wal_that_is_stored_before_its_position_is_known_lags_by_nothing() -> None:
    measures = Measures()
    assert measures.lag_bytes() is None
    measures.arrived(10, 110, 100, now=1.0)
    measures.kept(110, now=2.0)
    assert measures.lag_bytes() == 0
    measures.arrived(10, 120, 150, now=3.0)
    assert measures.lag_bytes() == 40


def test_a_heartbeat_is_stored_once_its_position_is() -> None:
    measures = Measures()
    beats = [
        Beat(datetime(2026, 11, 29, hour, tzinfo=UTC), position) for hour, position in ((1, 50), (2, 90))
    ]
    for beat in beats:
        measures.beat(beat)
    for stored, known in ((49, None), (50, beats[0]), (89, beats[0]), (90, beats[1])):
        measures.kept(stored, now=1.0)
        assert measures.beat_stored == known


def test_while_nothing_arrives_nothing_is_known_to_be_safe() -> None:
    measures = Measures()
    measures.kept(100, now=10.0)
    assert measures.unstored_seconds(11.0) is None, "it has never streamed"


STATUS = SlotStatus("reserved", retained_bytes=101, safe_bytes=102)


def moment(second: int) -> datetime:
    return datetime.fromtimestamp(second, UTC)


def known() -> Measures:
    """Measures of a server in which each value is another one."""
    measures = Measures(
        streaming=True,
        timeline=104,
        stored=1000,
        latest=1105,
        slot=STATUS,
        cap=106,
        uncapped=False,
        synchronous=True,
        clock_skew=107.5,
        received_bytes=108,
        stored_bytes=109,
        objects=110,
        gaps=111,
        beat_stored=Beat(moment(112), 0),
        gap_noticed=moment(113),
        base_taken=moment(114),
        base_proven=moment(115),
        recoverable=Recoverable(moment(116), moment(117), moment(118), rpo=119, rto=120, replay=121),
    )
    measures.kept(1000, 0.0)
    return measures


# What each of these is worth there, except what depends on the time.
VALUES = {
    "backup_wal_streaming": 1,
    "backup_wal_lag_bytes": 105,
    "backup_wal_last_heartbeat_stored_timestamp_seconds": 112,
    "backup_wal_slot_safe_bytes": 102,
    "backup_wal_slot_retained_bytes": 101,
    "backup_wal_slot_cap_bytes": 106,
    "backup_wal_slot_uncapped": 0,
    "backup_wal_synchronous": 1,
    "backup_wal_timeline": 104,
    "backup_wal_clock_skew_seconds": 107.5,
    "backup_wal_last_gap_timestamp_seconds": 113,
    "backup_wal_base_timestamp_seconds": 114,
    "backup_wal_base_proven_timestamp_seconds": 115,
    "backup_pitr_earliest_timestamp_seconds": 116,
    "backup_pitr_latest_timestamp_seconds": 117,
    "backup_pitr_proven_timestamp_seconds": 118,
    "backup_pitr_rpo_seconds": 119,
    "backup_pitr_rto_seconds": 120,
    "backup_pitr_replay_bytes_per_second": 121,
    "backup_wal_received_bytes_total": 108,
    "backup_wal_stored_bytes_total": 109,
    "backup_wal_objects_total": 110,
    "backup_wal_gaps_total": 111,
}


def exposed(measures: Measures) -> dict[str, float]:
    samples = (each for family in registry({"main": measures}).collect() for each in family.samples)
    found = {each.name: each for each in samples}
    assert {each.labels["server"] for each in found.values()} <= {"main"}
    return {name: each.value for name, each in found.items()}


def test_each_metric_of_the_stream_has_its_own_value() -> None:
    found = exposed(known())
    assert found.pop("backup_wal_slot_status") == 1
    assert found.pop("backup_wal_unstored_seconds") == pytest.approx(0, abs=60)
    assert found == VALUES


def test_what_is_not_known_of_the_stream_is_absent() -> None:
    counters = {name: 0.0 for name in VALUES if name.endswith("_total")}
    assert exposed(Measures()) == {"backup_wal_streaming": 0.0, **counters}
