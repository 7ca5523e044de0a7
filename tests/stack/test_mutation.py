"""The list of mutations, and what a run of them reports."""

import json
import re
from pathlib import Path

import pytest

from sidecar import UsageError
from stack.mutation import Mutation, Result, cheapest_first, mutations, run
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


COUNTING = """
import math


def add(a, b):
    return a + b  # sum


def area(radius):
    return math.pi * radius**2
"""
TESTS = """
from counting import add, area


def test_nothing():
    pass


def test_add():
    assert add(1, 2) == 3


def test_area():
    assert area(1) < 3
"""
CHANGES = """
tests: [test_counting.py, -k, "not area"]
mutations:
  - {file: counting.py, change: return a + b, to: __import__("os").abort()}
  - {file: counting.py, change: a + b, to: a - b}
  - {file: counting.py, change: '  # sum', to: ''}
  - {file: counting.py, change: a * b, to: a}
  - {file: counting.py, change: import math, to: import mathematics}
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A project with a wrong test, and five changes."""
    (tmp_path / "tests" / "mutations").mkdir(parents=True)
    (tmp_path / "counting.py").write_text(COUNTING)
    (tmp_path / "test_counting.py").write_text(TESTS)
    (tmp_path / "tests" / "mutations" / "counting.yml").write_text(CHANGES)
    return tmp_path


def outcomes(capsys: pytest.CaptureFixture[str]) -> list[str]:
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].endswith(" in 0 minutes of processor time")
    # One wrong line is found by a comparison, the other when the module is imported.
    assert sum(" by test_counting.py::test_add: assert -1 == 3" in line for line in lines) == 1, lines
    assert sum(" by test_counting.py: " in line for line in lines) == 1, lines
    return sorted(re.split(r" counting: | in 0 minutes", line)[0].strip() for line in lines)


def test_each_change_is_tried_alone_and_its_outcome_reported(
    checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        assert run((), checkout) == 1
        assert outcomes(capsys) == ["CRASHED", "NOT CAUGHT", "caught", "caught", "caught 2 of 5", "stale"]
    assert (checkout / "counting.py").read_text() == COUNTING


def test_the_test_that_noticed_a_change_is_tried_first(
    checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run((), checkout)
    caught = checkout / "tests" / "mutations" / "caught.json"
    found = json.loads(caught.read_text())
    assert {test: len(keys) for test, keys in found.items()} == {
        "test_counting.py": 1,
        "test_counting.py::test_add": 1,
    }
    # If the named test does not notice a change, the others are tried too.
    found["test_counting.py::test_nothing"] = found.pop("test_counting.py::test_add")
    caught.write_text(json.dumps(found))
    capsys.readouterr()
    run((), checkout)
    assert outcomes(capsys).count("caught") == 2
    assert "test_counting.py::test_add" in json.loads(caught.read_text())


def test_a_test_that_fails_without_a_change_is_named_and_left_out(
    checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = checkout / "tests" / "mutations" / "counting.yml"
    changes.write_text(changes.read_text().replace(', -k, "not area"', ""))
    assert run((), checkout) == 1
    assert outcomes(capsys) == [
        "CRASHED",
        "NOT CAUGHT",
        "caught",
        "caught",
        "caught 2 of 5",
        "fails without a change: test_counting.py::test_area",
        "stale",
    ]


AFTER_ANOTHER = """
import counting

seen = []


def test_adds():
    seen.append(counting.add(1, 2))


def test_depends_on_the_one_before():
    assert -1 not in seen
"""


def test_a_test_that_fails_only_after_another_one_notices_nothing(
    checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (checkout / "test_counting.py").write_text(AFTER_ANOTHER)
    (checkout / "tests" / "mutations" / "counting.yml").write_text(
        "tests: [test_counting.py]\nmutations:\n  - {file: counting.py, change: a + b, to: a - b}\n"
    )
    assert run((), checkout) == 1
    assert capsys.readouterr().out.startswith("NOT CAUGHT counting")


def test_tests_without_a_server_are_tried_first() -> None:
    results = [
        Result("starts a server", failed=False, setup=2.0, call=0.1, shared="postgres"),
        Result("slow", failed=False, setup=0.0, call=5.0, shared=""),
        Result("uses the server", failed=False, setup=0.0, call=0.0, shared="postgres"),
        Result("fast", failed=False, setup=0.1, call=0.2, shared=""),
    ]
    assert cheapest_first(results) == ["fast", "slow", "uses the server", "starts a server"]
