"""The list of mutations, and what a run of them reports."""

from pathlib import Path

import pytest

from sidecar import UsageError
from stack.mutation import Mutation, mutations, run
from stack.paths import ROOT


def test_every_mutation_can_be_tried() -> None:
    for mutation in mutations():
        assert (ROOT / mutation.file).is_file(), mutation
        paths = [one for one in mutation.tests if one.startswith("tests/")]
        assert paths, mutation
        assert all((ROOT / path).is_file() for path in paths), mutation
        assert mutation.change != mutation.to, mutation


def test_few_mutations_are_stale() -> None:
    """Each is named by a run; a change of the code may leave one behind, not many."""
    stale = [one for one in mutations() if one.applied((ROOT / one.file).read_text(encoding="utf-8")) is None]
    assert len(stale) <= len(mutations()) // 20, "\n".join(map(str, stale))


def test_only_the_first_occurrence_is_changed_and_a_missing_one_is_reported() -> None:
    mutation = Mutation("a", "b.py", "x = 1", "x = 2", ("tests/b.py",))
    assert mutation.applied("x = 1\nx = 1\n") == "x = 2\nx = 1\n"
    assert mutation.applied("y = 1\n") is None


def test_an_unknown_group_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="no group of mutations nothing"):
        run(("nothing",))


def test_each_change_is_tried_alone_and_its_outcome_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tests" / "mutations").mkdir(parents=True)
    (tmp_path / "counting.py").write_text("def add(a, b):\n    return a + b  # sum\n")
    (tmp_path / "test_counting.py").write_text(
        "from counting import add\n\n\ndef test_add():\n    assert add(1, 2) == 3\n"
    )
    (tmp_path / "tests" / "mutations" / "counting.yml").write_text(
        "tests: [test_counting.py]\n"
        "mutations:\n"
        "  - {file: counting.py, change: a + b, to: a - b}\n"
        "  - {file: counting.py, change: '  # sum', to: ''}\n"
        "  - {file: counting.py, change: a * b, to: a}\n"
    )
    assert run((), tmp_path) == 1
    outcomes = [line.split(" counting:")[0].strip() for line in capsys.readouterr().out.splitlines()]
    assert outcomes == ["caught", "NOT CAUGHT", "stale", "caught 1 of 3"]
    assert "a + b" in (tmp_path / "counting.py").read_text()
