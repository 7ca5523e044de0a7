"""Definitions are divided only where nothing depends on what another session creates."""

import random

import pytest

from backup.load import lanes
from backup.load.lanes import Division, keys, tables
from backup.postgres.archive import POST_DATA, PRE_DATA, Entry


@pytest.fixture(autouse=True)
def _from_the_first_table_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "LEAST", 1)


def pre(number: int, kind: str, *needs: int) -> Entry:
    return Entry(number, kind.encode(), PRE_DATA, needs)


def post(number: int, kind: str, *needs: int) -> Entry:
    return Entry(number, kind.encode(), POST_DATA, needs)


SHOP = (
    pre(1, "SCHEMA"),
    pre(2, "FUNCTION", 1),
    pre(3, "TABLE", 1),
    pre(4, "SEQUENCE", 3),
    pre(5, "TABLE", 1, 2),
    pre(6, "VIEW", 3, 5),
    pre(7, "FUNCTION", 6),
    pre(8, "DEFAULT", 3, 4),
    pre(9, "DEFAULT", 5, 7),
    Entry(10, b"COMMENT", 1, (3,)),
    post(20, "CONSTRAINT", 3),
    post(21, "INDEX", 5),
    post(22, "MATERIALIZED VIEW", 3, 20),
    post(23, "INDEX", 22),
    post(24, "FK CONSTRAINT", 5, 20),
)


def test_each_table_is_in_one_lane_with_what_belongs_to_it() -> None:
    assert tables(SHOP) == Division(frozenset({1, 2}), (frozenset({3, 4, 8}), frozenset({5})))


def test_keys_come_before_what_depends_on_them() -> None:
    assert keys(SHOP) == Division(lanes=(frozenset({20}), frozenset({21})))


def test_tables_that_inherit_from_each_other_are_in_one_lane() -> None:
    family = (
        pre(1, "TABLE"),
        pre(2, "TABLE", 1),
        pre(3, "TABLE"),
        pre(4, "TABLE ATTACH", 2, 3),
        pre(5, "TABLE"),
    )
    indexes = tuple(post(10 + each.id, "INDEX", each.id) for each in family if each.kind == b"TABLE")
    assert keys((*family, *indexes)).lanes == (frozenset({11, 12, 13}), frozenset({15}))
    assert keys((*family, *indexes[:3])).lanes == ()


def test_what_would_be_one_lane_is_not_divided() -> None:
    shared = (pre(1, "SEQUENCE"), *(pre(number, "TABLE", 1) for number in range(2, 50)))
    assert tables(shared) == Division()
    assert tables(()) == keys(()) == Division()


def test_few_definitions_are_not_divided(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "LEAST", 5)
    assert tables(SHOP) == keys(SHOP) == Division()


@pytest.mark.parametrize("seed", range(30))
def test_nothing_needs_what_is_created_at_the_same_time_or_later(seed: int) -> None:
    source = random.Random(seed)
    kinds = ("TABLE", "SEQUENCE", "DEFAULT", "TYPE", "FUNCTION", "VIEW", "TABLE ATTACH", "COMMENT")
    items = []
    for number in range(1, 60):
        needs = source.sample(range(1, 60), source.randint(0, 2))
        # A few of them need something that comes later, as where pg_dump had to break a cycle.
        needs = [need for need in needs if need < number or source.random() < 0.05]
        items.append(pre(number, source.choice(kinds), *needs))
    items += [
        post(
            number,
            source.choice(("INDEX", "CONSTRAINT", "RULE", "VIEW")),
            *source.sample(range(1, number), 2),
        )
        for number in range(60, 120)
    ]
    for division in (tables(items), keys(items)):
        needs_of = {item.id: set(item.needs) for item in items}
        created = {item.id for item in items if item.section == PRE_DATA} if not division.first else set()
        created = created if division == keys(items) else set()
        for number in sorted(division.first):
            assert needs_of[number] <= created | division.first
        created |= division.first
        for lane in division.lanes:
            for number in lane:
                assert needs_of[number] <= created | lane
