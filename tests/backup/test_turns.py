"""Measurements that take turns, and what the benchmark prints of them."""

from functools import partial
from itertools import count

from bench.pitr.turns import compared, median, take_turns


def test_every_second_round_is_in_reverse() -> None:
    order: list[str] = []
    clock = count(1)

    def subject(name: str) -> float:
        order.append(name)
        return float(next(clock))

    found = take_turns({name: partial(subject, name) for name in "abc"}, 2)
    assert order == ["a", "b", "c", "c", "b", "a"]
    assert found == [{"a": 1, "b": 2, "c": 3}, {"c": 4, "b": 5, "a": 6}]
    assert list(found[1]) == ["c", "b", "a"]


def test_a_ratio_is_that_of_each_round_and_has_a_spread() -> None:
    rounds = [
        {"ours": ours, "theirs": theirs} for ours, theirs in ((1, 1), (20, 10), (3, 1), (40, 10), (5, 1))
    ]
    assert compared("pace", rounds, "ours", "theirs") == {
        "pace_ratio": 3,
        "pace_lower_ratio": 2,
        "pace_upper_ratio": 4,
    }
    assert set(compared("pace", rounds[:1], "ours", "theirs").values()) == {1}
    assert median(rounds, "ours") == 5
