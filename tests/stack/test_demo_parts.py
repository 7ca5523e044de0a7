"""Parts of the demo; tests/e2e runs all of it."""

from pathlib import Path

import pytest

from sidecar import OpsError, UsageError
from stack.demo import folder
from stack.demo.backups import flip


def test_the_state_of_an_earlier_demo_is_removed(tmp_path: Path) -> None:
    with folder.fresh(tmp_path / "demo") as place:
        (place / "postgres").mkdir()
    with folder.fresh(tmp_path / "demo") as place:
        assert [entry.name for entry in place.iterdir()] == [folder.MARK]


def test_a_folder_with_other_content_is_not_emptied(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UsageError, match="is not empty"), folder.fresh(tmp_path):
        pass
    assert (tmp_path / "thesis.tex").exists()


def test_an_impossible_folder_is_named_in_the_error() -> None:
    with (
        pytest.raises(UsageError, match=r"--folder /dev/null/x: .*: Not a directory"),
        folder.fresh(Path("/dev/null/x")),
    ):
        pass


def test_one_demo_at_a_time_in_a_folder(tmp_path: Path) -> None:
    with (
        folder.fresh(tmp_path / "demo") as place,
        pytest.raises(OpsError, match="another demo is running"),
        folder.fresh(place),
    ):
        pass


def test_flipping_changes_one_bit(tmp_path: Path) -> None:
    path = tmp_path / "object"
    path.write_bytes(b"abc")
    flip(path)
    assert path.read_bytes() == b"acc"
