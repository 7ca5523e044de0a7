"""The table of tasks that wait: a dict's answers in a sixth of its memory."""

from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporters.tables import backlog
from exporters.tables.backlog import Backlog, Run
from exporters.tables.entry import DUE_SHIFT, KEY_MASK, RUNNING

KEYS = st.integers(0, 40) | st.integers(0, KEY_MASK)
ENTRIES = st.integers(1, (1 << DUE_SHIFT + 44) - 1)
STEPS = st.lists(
    st.tuples(st.just("add"), KEYS, ENTRIES)
    | st.tuples(st.sampled_from(["pop", "find", "settle"]), KEYS, st.just(0))
    | st.tuples(st.just("keep"), KEYS, ENTRIES)
)


@pytest.fixture(autouse=True, scope="module")
def few_in_the_dict() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backlog, "MIN_NEWEST", 4)
        yield


def from_key(least: int) -> Callable[[int, int], bool]:
    return lambda key, _: key >= least


@given(STEPS)
def test_it_answers_like_a_dict(steps: list[tuple[str, int, int]]) -> None:
    table, model = Backlog(1_000), dict[int, int]()
    for step, key, entry in steps:
        match step:
            case "add":
                # A task is added once: its second task-sent replaces the first only while that is in the dict.
                table.pop(key)
                table.newest[key] = model[key] = entry
                if len(table.newest) > 4:
                    table.settle()
            case "pop":
                assert table.pop(key) == model.pop(key, 0)
            case "find":
                assert table.find(key) == model.get(key, 0)
            case "settle":
                table.settle()
            case _:
                table.keep(from_key(entry >> 30))
                model = {known: value for known, value in model.items() if known >= entry >> 30}
        assert len(table) == len(model)
    assert {key: table.pop(key) for key in model} == model
    assert len(table) == 0


def test_a_backlog_stays_in_few_arrays() -> None:
    """Half of the tasks never leave: the small remainders of the arrays are merged."""
    table = Backlog(800)
    for number in range(3_000):
        table.newest[number * 7919] = number + 1
        if len(table.newest) > table.room:
            table.settle()
        if number % 4:
            assert table.pop(number * 7919) == number + 1
    assert len(table) == 750
    assert len(table._runs) < 25


def test_the_dict_has_no_room_beyond_the_limit() -> None:
    table = Backlog(10)
    for number in range(10):
        table.newest[number] = 1
    table.settle()
    assert table.room == 0
    table.keep(lambda key, _: key < 7)
    assert (table.room, len(table)) == (3, 7)


def test_an_array_keeps_flags_and_due_times() -> None:
    entry = (1 << 43) << DUE_SHIFT | RUNNING | 5
    run = Run({KEY_MASK: entry, 0: 1})
    assert run.find(KEY_MASK, take=False) == entry
    assert (run.find(KEY_MASK, take=True), run.find(KEY_MASK, take=True)) == (entry, 0)
    assert (run.left, run.tasks()) == (1, {0: 1})
