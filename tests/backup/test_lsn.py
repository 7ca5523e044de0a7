"""Positions and segments of the WAL: the arithmetic is PostgreSQL's own."""

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backup.physical import lsn
from stack.servers import Postgres

SIZES = st.sampled_from([1 << shift for shift in range(20, 31)])
POSITIONS = st.integers(0, lsn.MAX_POSITION)
TIMELINES = st.integers(1, lsn.MAX_TIMELINES)


@given(POSITIONS)
def test_a_position_is_read_as_it_was_written(position: int) -> None:
    assert lsn.parse(lsn.text(position)) == position


@given(POSITIONS, SIZES)
def test_a_position_lies_in_its_segment(position: int, size: int) -> None:
    start, end = lsn.segment_start(position, size), lsn.segment_end(position, size)
    assert start <= position < end
    assert end - start == size
    assert lsn.segment_of(position, size) * size == start


@given(TIMELINES, POSITIONS, SIZES)
def test_a_segment_is_read_as_it_was_named(timeline: int, position: int, size: int) -> None:
    number = lsn.segment_of(position, size)
    assert lsn.parse_segment(lsn.segment_name(timeline, number, size), size) == (timeline, number)


@pytest.mark.parametrize(
    "text", ["", "0", "0/", "/0", "0/123456789", "g/0", "0/0\n", " 0/0", "-1/0", "0/0/0", "٣/0", "0x1/0"]
)
def test_what_is_not_a_position_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a position"):
        lsn.parse(text)


@pytest.mark.parametrize("position", [-1, lsn.MAX_POSITION + 1])
def test_a_position_out_of_bounds_is_not_written(position: int) -> None:
    with pytest.raises(ValueError, match="not a position"):
        lsn.text(position)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "000000010000000000000001.history",
        "000000000000000000000001",  # timeline 0
        "000000010000000000000100",  # with 16 MiB, 256 segments have the same middle part
        "00000001000000000000000g",
        "00000001000000000000000a",  # PostgreSQL writes upper case
        "000000010000000000000001\n",
    ],
)
def test_what_is_not_a_segment_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="not the name"):
        lsn.parse_segment(name, 16 << 20)


@pytest.mark.parametrize("size", [0, -1, 1 << 19, 3 << 20, 1 << 31])
def test_a_size_that_no_segment_has_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="not a size"):
        lsn.checked_size(size)


def test_names_are_those_of_the_server(postgres: Postgres) -> None:
    with psycopg.connect(postgres.url) as connection:
        size = connection.execute(
            "SELECT setting::bigint FROM pg_settings WHERE name = 'wal_segment_size'"
        ).fetchone()
        assert size is not None
        for position in ("0/1", "0/FFFFFF", "0/1000001", "1/2345678", "FFFF/FFFFFF01"):
            row = connection.execute(
                "SELECT pg_walfile_name(%s), %s::pg_lsn::text", [position] * 2
            ).fetchone()
            assert row is not None
            value = lsn.parse(position)
            # The server's function names the segment before a position on a boundary; none of these is on one.
            assert row[0] == lsn.segment_name(1, lsn.segment_of(value, size[0]), size[0])
            assert row[1] == lsn.text(value)
