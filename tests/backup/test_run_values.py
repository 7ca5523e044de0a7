"""Where a run goes when the store does not answer, and what is left of it in memory."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from backup import run as running
from backup.errors import StoreAccessError, StoreError
from backup.run import destination, run
from backup.store import MemoryStore
from backup.targets import ServerTarget
from sidecar import OpsError
from tests.backup.test_wires import FakeLock, lock, wired

__all__ = ["lock"]

AWAY = StoreError("away", operation="check", hint="wait")
REFUSED = StoreAccessError("no such key", operation="check", hint="correct the key")
SERVER: Any = ServerTarget.__new__(ServerTarget)
DATABASE: Any = object()


class Double:
    """A store that answers, or raises an error."""

    def __init__(self, error: StoreError | None = None) -> None:
        self.asked = 0
        self._error = error

    def check(self) -> None:
        self.asked += 1
        if self._error:
            raise self._error


def wiring(store: Double, spool: Double | None) -> Any:
    recorded: list[OpsError] = []
    journal = SimpleNamespace(failed_without_store=lambda _, error: recorded.append(error))
    return SimpleNamespace(store=store, spool=spool, journal=lambda _: journal, recorded=recorded)


def test_the_spool_takes_over_only_if_it_answers() -> None:
    store: Any = Double()
    spool: Any = Double()
    assert destination(wiring(store, spool), strict=False) == store
    assert spool.asked == 0
    assert destination(wiring(Double(AWAY), spool), strict=True) == spool
    assert spool.asked == 1
    with pytest.raises(StoreError, match="the spool is away"):
        destination(
            wiring(Double(AWAY), Double(StoreError("the spool is away", operation="check", hint="x"))),
            strict=False,
        )


@pytest.mark.parametrize(
    ("target", "strict", "spooled"),
    [(DATABASE, False, True), (DATABASE, True, False), (SERVER, False, False), (SERVER, True, False)],
)
def test_refused_credentials_end_a_run_by_hand_and_each_base_backup(
    target: Any, strict: bool, spooled: bool
) -> None:
    spool: Any = Double()
    given = wiring(Double(REFUSED), spool)
    target = SimpleNamespace(name="shop") if target is DATABASE else target
    if target is SERVER:
        object.__setattr__(target, "name", "main")
    if spooled:
        assert running._destination(given, target, strict=strict) is spool
        assert given.recorded == []
        return
    with pytest.raises(StoreAccessError):
        running._destination(given, target, strict=strict)
    assert given.recorded == [REFUSED]


def test_without_a_spool_nothing_takes_over() -> None:
    assert not running._spools(wiring(Double(), None), DATABASE)
    assert running._spools(wiring(Double(), Double()), DATABASE)
    assert not running._spools(wiring(Double(), Double()), SERVER)


@pytest.mark.parametrize("lost", [False, True])
def test_no_meter_is_left_of_a_run(lock: FakeLock, tmp_path: Path, lost: bool) -> None:
    lock.lost = lost
    given = wired(tmp_path, MemoryStore())
    try:
        run(given, given.targets[0])
    except OpsError:
        assert lost
    assert given.meters == {}
