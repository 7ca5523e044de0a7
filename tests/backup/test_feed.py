"""WAL files on their way to a server that may run any code."""

import subprocess
import threading
from pathlib import Path

import pytest

from backup.cancellation import never
from backup.confinement import Confinement
from backup.errors import VerificationError
from backup.physical.feed import AHEAD, Feed
from backup.pipeline.child import run_child
from backup.programs import clean_environment
from tests.backup.walkit import until

NAMES = [f"{number:024X}" for number in range(20)]


def fetch(name: str, target: Path) -> None:
    if name == NAMES[18]:
        raise VerificationError(f"{name} is missing", hint="choose another target")
    target.write_text(name)


def folders(tmp_path: Path) -> tuple[Path, Path]:
    folder = tmp_path / "private"
    (folder / "pg").mkdir(parents=True)
    return folder, folder / "pg"


def asked(feed: Feed, own: Path, name: str) -> int:
    """The exit code of the restore_command, run as the server runs it."""
    command = feed.command.replace("%f", name).replace("%p", str(own / "RECOVERYXLOG")).replace("%%", "%")
    ended = run_child(
        ["/bin/sh", "-c", command],
        env=clean_environment(),
        confinement=Confinement(own, (feed.folder,)),
        output=True,
        check=never,
    )
    return ended.status


def test_each_file_is_handed_over_once_and_in_order(tmp_path: Path) -> None:
    folder, own = folders(tmp_path)
    with Feed(folder, NAMES[:18], fetch, server=own) as feed:
        for name in NAMES[:18]:
            assert asked(feed, own, name) == 0
            assert (own / "RECOVERYXLOG").read_text() == name
            assert asked(feed, own, name) == 1, "the server has it already"
        assert asked(feed, own, NAMES[19]) == 1, "it was not promised"
        assert len(list(feed.ready.iterdir())) <= AHEAD, "what was taken is removed"
    assert [path.name for path in folder.iterdir()] == ["pg"]
    assert [path.name for path in own.iterdir()] == ["RECOVERYXLOG"]


def test_what_cannot_be_fetched_stops_the_server(tmp_path: Path) -> None:
    folder, own = folders(tmp_path)
    with Feed(folder, NAMES[18:19], fetch, server=own) as feed:
        assert asked(feed, own, NAMES[18]) == 255
        assert "is missing" in str(feed.failure)


def test_a_file_that_cannot_be_handed_over_stops_the_server(tmp_path: Path) -> None:
    """Such as on a full disk: with any other code, the server would take it for the end of the WAL."""
    folder, own = folders(tmp_path)
    with Feed(folder, NAMES[:2], fetch, server=own) as feed:
        (own / "RECOVERYXLOG").mkdir()
        (own / "RECOVERYXLOG" / NAMES[0]).mkdir()
        assert asked(feed, own, NAMES[0]) == 255


def test_histories_are_fetched_before_the_segments_that_wait(tmp_path: Path) -> None:
    """The server asks for them first, and takes no segment until it has them."""
    folder, own = folders(tmp_path)
    history = "00000002.history"
    with Feed(folder, [*NAMES[:18], history], fetch, server=own) as feed:
        until((feed.ready / history).exists, "the history is there")
        assert asked(feed, own, history) == 0
        assert asked(feed, own, history) == 0, "the server asks twice"


@pytest.mark.parametrize(
    "trick", ["ln -s {outside} {own}/x; mv {own}/x {own}/taken-*", "rm {own}/taken-*; mkfifo {own}/taken-x"]
)
def test_a_server_that_replaces_its_list_changes_nothing_of_ours(tmp_path: Path, trick: str) -> None:
    folder, own = folders(tmp_path)
    outside = tmp_path / "outside"
    outside.write_text("as it was")
    with Feed(folder, NAMES[:18], fetch, server=own) as feed:
        assert asked(feed, own, NAMES[0]) == 0
        subprocess.run(["/bin/sh", "-c", trick.format(own=own, outside=outside)], check=True)
        until((feed.ready / NAMES[5]).exists, "the others are fetched ahead")
    assert outside.read_text() == "as it was"
    assert threading.active_count() < 20
    assert {path.name for path in folder.iterdir()} == {"pg"}
