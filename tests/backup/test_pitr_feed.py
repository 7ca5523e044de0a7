"""The exit codes of the restore_command: one below 126 means "the log ends here" to PostgreSQL."""

import shlex
import subprocess
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import pytest

from backup.catalogue.history import Entry
from backup.errors import RecoveryError, UnprovableError, VerificationError
from backup.load.throwaway import log_of
from backup.physical.archive import Archive, Listing
from backup.physical.feed import Feed
from backup.physical.records import Ending
from backup.physical.recover import why_ended
from backup.physical.replica import Replica
from backup.physical.segments import Segments
from backup.physical.targets import Latest
from backup.store import MemoryStore
from backup.wiring import Wiring

ENDS, STOPS = 1, 255
FIRST, SECOND = "000000010000000000000001", "000000010000000000000002"


def ask(feed: Feed, name: str, folder: Path) -> int:
    """Run the command as the server does."""
    line = feed.command.replace("%f", name).replace("%p", "taken-here").replace("%%", "%")
    return subprocess.run(shlex.split(line), cwd=folder, check=False, timeout=60).returncode


def write(name: str, target: Path) -> None:
    target.write_text(name)


def fail(name: str, _: Path) -> None:
    raise VerificationError(f"{name} is damaged", hint="choose another target")


def test_what_was_never_stored_is_the_end_of_the_log(tmp_path: Path) -> None:
    """The first file that a server asks for is the history of a timeline that rightly does not exist."""
    with Feed(tmp_path, [FIRST], write) as feed:
        assert ask(feed, "00000002.history", tmp_path) == ENDS
        assert ask(feed, SECOND, tmp_path) == ENDS
        assert ask(feed, FIRST, tmp_path) == 0
        assert (tmp_path / "taken-here").read_text() == FIRST
        # Requested again after reading ahead: the server already has it.
        assert ask(feed, FIRST, tmp_path) == ENDS


def test_the_history_of_a_timeline_is_given_each_time(tmp_path: Path) -> None:
    """The server asks for it twice. Without it, it would look for all WAL only on its newest timeline."""
    names = [*(f"{number:08X}.history" for number in range(2, 14)), FIRST]
    with Feed(tmp_path, names, write) as feed:
        for _ in range(2):
            assert ask(feed, "0000000D.history", tmp_path) == 0
            assert (tmp_path / "taken-here").read_text() == "0000000D.history"
        # Files that no one requests do not hold up the segments.
        assert ask(feed, FIRST, tmp_path) == 0


def test_what_was_stored_and_cannot_be_fetched_stops_the_server(tmp_path: Path) -> None:
    with Feed(tmp_path, [FIRST, SECOND], fail) as feed:
        assert ask(feed, FIRST, tmp_path) == STOPS
        assert ask(feed, SECOND, tmp_path) == STOPS
        assert ask(feed, "00000002.history", tmp_path) == ENDS
        assert str(feed.failure) == f"{FIRST} is damaged"


def test_a_file_that_is_being_fetched_is_waited_for(tmp_path: Path) -> None:
    asked = threading.Event()

    def slow(name: str, target: Path) -> None:
        assert asked.wait(60)
        write(name, target)

    with Feed(tmp_path, [FIRST], slow) as feed:
        answers: list[int] = []
        asking = threading.Thread(target=lambda: answers.append(ask(feed, FIRST, tmp_path)))
        asking.start()
        asking.join(0.1)
        assert answers == []
        asked.set()
        asking.join(60)
    assert answers == [0]


@pytest.fixture
def verdict(tmp_path: Path) -> Callable[[str], RecoveryError | UnprovableError]:
    def judge(text: str) -> RecoveryError | UnprovableError:
        log_of(tmp_path).write_text(text)
        return why_ended(tmp_path)

    return judge


Judge = Callable[[str], RecoveryError | UnprovableError]


def test_a_server_that_ended_without_a_message_has_not_recovered(verdict: Judge) -> None:
    """As after exit 143 of the command, or when the system kills it."""
    found = verdict("LOG:  starting archive recovery\n")
    assert isinstance(found, RecoveryError)
    assert "could not recover: LOG:  starting archive recovery" in found.message
    assert "it ended without a message" in verdict("").message


def test_a_target_that_is_never_reached_leads_to_the_latest_state(verdict: Judge) -> None:
    found = verdict("FATAL:  recovery ended before configured recovery target was reached\n")
    assert found.message == "the WAL ends, or is damaged, before the target"
    assert "--at latest" in found.hint


def test_a_target_before_the_end_of_the_base_backup_is_named(verdict: Judge) -> None:
    found = verdict("FATAL:  requested recovery stop point is before consistent recovery point\n")
    assert found.message == "the target is before the end of the base backup"


def test_a_compression_that_is_missing_here_is_not_damage(verdict: Judge) -> None:
    line = "could not restore image at 0/3000060 compressed with zstd not supported by build, block 0"
    found = verdict(f"LOG:  redo starts at 0/3000028\nFATAL:  {line}\n")
    assert isinstance(found, UnprovableError)
    assert line in found.message
    assert "BACKUP_POSTGRES_BIN" in found.hint


def test_the_latest_state_is_a_target_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a target, a server mistakes a hole in the log for its end, and leaves recovery."""
    segments = Segments(MemoryStore(), Archive("main", "7713437366875807143", 1 << 24), Listing(), (), 3)
    made = Replica(cast("Wiring", None), cast("Entry", None), segments, tmp_path)
    last = Ending("commit", 0x3000060, 731, datetime(2026, 11, 29, tzinfo=UTC))
    monkeypatch.setattr(Replica, "last_ending", lambda _: last)
    assert made.target(Latest()) == {
        "recovery_target_lsn": "0/3000060",
        "recovery_target_inclusive": "on",
        "recovery_target_timeline": "3",
        "recovery_target_action": "pause",
    }
    # An idle server: nothing was committed since the base backup, and its end is the target.
    monkeypatch.setattr(Replica, "last_ending", lambda _: None)
    assert made.target(Latest())["recovery_target"] == "immediate"
    assert made.target(Latest())["recovery_target_action"] == "pause"
