"""The demo's own parts; the whole of it runs in tests/e2e."""

from pathlib import Path

import pytest

from sidecar import OpsError, UsageError
from stack.demo import folder
from stack.demo.backups import flip


def test_an_earlier_demo_is_cleared_away(tmp_path: Path) -> None:
    with folder.fresh(tmp_path / "demo") as place:
        (place / "postgres").mkdir()
    with folder.fresh(tmp_path / "demo") as place:
        assert [entry.name for entry in place.iterdir()] == [folder.MARK]


def test_nothing_of_anybody_else_is_removed(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UsageError, match="is not empty"), folder.fresh(tmp_path):
        pass
    assert (tmp_path / "thesis.tex").exists()


def test_a_folder_that_cannot_be_is_named() -> None:
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
