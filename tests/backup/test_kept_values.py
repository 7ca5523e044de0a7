"""Which databases a restore has left, which of them may be dropped, and what was changed in one meanwhile."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from backup.errors import DumpError
from backup.postgres.databases import WORKING, Mark, Written
from backup.restore import kept, touched
from sidecar import UsageError
from tests.backup.test_swaps import ADDRESS, Server, mark

COPY = f"{WORKING}73965c4ce6dcbaf4"


class Sized(Server):
    """The simulated server, with sizes, working copies and drops."""

    def starting_with(self, prefix: str) -> list[str]:
        return sorted(name for name in self.known if name.startswith(prefix))

    def size(self, name: str) -> int:
        return len(name)

    def drop(self, name: str) -> None:
        assert self.locked == ["shop", name]
        del self.known[name]


def left(**more: Mark | None) -> Any:
    known = {
        "shop": mark("promoted", partner="shop_before"),
        "shop_before": mark("before", partner="shop"),
        "shop_restored": mark(),
        "shop_undone": mark("undone"),
        # A copy of production has its mark.
        "shop_copy": mark("promoted"),
        "shop_returned": mark("returned"),
        "other": None,
        COPY: None,
        **more,
    }
    return Sized(known)


def test_production_is_first_and_other_databases_are_not_ours() -> None:
    assert [(each.name, each.state, each.droppable) for each in kept.read(left())] == [
        ("shop", "production", False),
        ("shop_before", "before", True),
        ("shop_copy", "production", False),
        ("shop_restored", "restored", True),
        ("shop_returned", "production", False),
        ("shop_undone", "undone", True),
        (COPY, "unfinished", False),
    ]
    server = left()
    del server.known["shop"]
    assert kept.read(server)[0].name == "shop_before"


def test_production_is_in_production_whatever_its_mark() -> None:
    found = kept.read(left(shop=mark("restored")))[0]
    assert (found.state, found.size, found.droppable) == ("production", 4, False)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("shop", "shop is production"),
        ("shop_copy", "shop_copy is production"),
        (COPY, "is an unfinished restore, which the next restore removes"),
        ("other", "was not left by a restore or a promotion"),
        ("nothing", "was not left by a restore or a promotion"),
    ],
)
def test_only_what_a_restore_left_may_be_dropped(
    monkeypatch: pytest.MonkeyPatch, name: str, why: str
) -> None:
    server = left()
    before = dict(server.known)

    @contextmanager
    def databases(_: object) -> Iterator[Server]:
        yield server

    monkeypatch.setattr(kept, "databases", databases)
    with pytest.raises(UsageError, match=why):
        kept.choose(server, name)
    if name != "shop":  # the lock of the simulated server is taken only once
        with pytest.raises(UsageError, match=why):
            kept.drop(ADDRESS, name)
    assert server.known == before
    kept.drop(ADDRESS, "shop_undone")
    assert before.keys() - server.known.keys() == {"shop_undone"}


def test_a_rollback_needs_the_partner_of_what_was_promoted() -> None:
    assert kept.is_way_back(left(), "shop_before")
    assert not kept.is_way_back(left(), "shop_undone")
    assert not kept.is_way_back(left(shop=mark("returned", partner="shop_before")), "shop_before")
    assert not kept.is_way_back(left(shop=None), "shop_before")


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (Written(rows=7, definitions="1"), ""),
        (Written(rows=8, definitions="1"), "changed since it was verified: 1 row written"),
        (Written(rows=7, definitions="2"), "changed since it was verified: definitions changed"),
        (
            Written(rows=9, definitions="2"),
            "changed since it was verified: 2 rows written, definitions changed",
        ),
        (Written(rows=6, definitions="2"), "is not known: the server has lost its statistics"),
        (None, "is not known: the server has lost its statistics"),
    ],
)
def test_what_was_changed_since_the_verification(
    monkeypatch: pytest.MonkeyPatch, found: Written | None, text: str
) -> None:
    @contextmanager
    def session(*_: object, **__: object) -> Iterator[None]:
        yield None

    monkeypatch.setattr(touched, "session", session)
    monkeypatch.setattr(touched, "written", lambda _: found)
    verified = mark(written=Written(rows=7, definitions="1"))
    output = touched.since(ADDRESS, verified)
    assert text in output
    assert bool(output) == bool(text)
    for unasked in (mark(), replace_state(verified)):
        assert touched.since(ADDRESS, unasked) == ""


def replace_state(one: Mark) -> Mark:
    return one.model_copy(update={"state": "undone"})


def test_a_server_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def session(*_: object, **__: object) -> None:
        raise DumpError("cannot connect", hint="start it")

    monkeypatch.setattr(touched, "session", session)
    output = touched.since(ADDRESS, mark(written=Written(rows=7, definitions="1")))
    assert output == "whether it was changed is not known: cannot connect"
