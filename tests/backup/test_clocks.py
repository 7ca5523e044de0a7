"""No single clock is trusted: those of the database and the store are read too, and a backup from the future is not the latest."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from backup.errors import PreflightError
from backup.replication.merged import read
from backup.run import check_clock, run
from backup.service import status_page
from backup.service.state import new_state
from backup.store import MemoryStore
from tests.backup.conftest import Wire, samples
from tests.backup.documents import NOW, history, manifest, put

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def test_what_is_from_the_future_is_not_the_latest() -> None:
    store = MemoryStore()
    now, ahead = manifest(NOW - HOUR), manifest(NOW + 365 * DAY)
    for made in (now, ahead, manifest(NOW - 9 * HOUR)):
        put(store, made)
    found = history(store)
    assert found.latest is not None
    assert found.last_verified is not None
    assert (found.latest.id, found.last_verified.id) == (now.id, now.id)
    assert found.seconds_ahead == 365 * 86400
    # Clocks may be a few minutes apart.
    near = manifest(NOW + timedelta(minutes=9))
    put(store, near)
    latest = history(store).latest
    assert latest is not None
    assert latest.id == near.id


def test_metrics_and_status_page_show_a_backup_from_the_future(wired: Wire) -> None:
    wiring = wired(BACKUP_DATABASE_URLS="shop=postgresql://u@127.0.0.1:9/shop")
    now = datetime.now(UTC)
    put(wiring.store, manifest(now - HOUR))
    put(wiring.store, manifest(now + 365 * DAY))
    state = new_state(wiring)
    state.refresh()
    found = samples(state)
    assert 364 * 86400 < found['backup_clock_ahead_seconds{database="shop"}'] < 366 * 86400
    assert 0 < found['backup_age_seconds{database="shop"}'] < 7200
    assert found['backup_last_success_timestamp_seconds{database="shop"}'] < now.timestamp()
    assert found['backup_prune_blocked{database="shop"}'] == 1
    assert "ahead of this clock" in status_page.render(state)


@pytest.mark.parametrize("off", [timedelta(minutes=-11), timedelta(days=365)])
def test_a_run_by_a_wrong_clock_is_refused_before_the_dump(wired: Wire, off: timedelta) -> None:
    wiring = wired()
    wrong = replace(wiring, clock=lambda: datetime.now(UTC) + off)
    with pytest.raises(PreflightError, match=r"this host's clock is .* the clock of the store"):
        run(wrong, wrong.targets[0])
    found = read(wrong).history(wiring.targets[0].name)
    assert found.backups == ()
    assert [attempt.outcome for attempt in found.attempts] == ["failure"]
    # With a correct clock, a run from the future is not the newest one, because no other could ever replace it.
    newest = read(wiring).history(wiring.targets[0].name).newest("backup")
    assert (newest is None) == (off > timedelta(0))


def test_clocks_that_agree_well_enough() -> None:
    check_clock("the store", None)
    check_clock("the store", timedelta(minutes=9))
    with pytest.raises(PreflightError, match=r" behind the clock of the database"):
        check_clock("the database", timedelta(hours=1))
    with pytest.raises(PreflightError, match="ahead of the clock of the database"):
        check_clock("the database", -timedelta(hours=1))
