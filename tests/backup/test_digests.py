"""Digests of dumps as text, by table and by object."""

import os
import random
import threading
import tracemalloc
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Self, cast

import pytest

from backup.programs import Programs
from backup.verify import large_tables
from backup.verify.compare import reading
from backup.verify.digests import (
    Digest,
    Digests,
    Known,
    Parser,
    Rows,
    _Object,
    compare,
    digests,
    with_large_objects_together,
)
from backup.verify.dumps import NICENESS

DUMP = b"""--
-- PostgreSQL database dump
--

\\restrict abc
SET statement_timeout = 0;

--
-- Name: posts; Type: TABLE; Schema: public; Owner: shop
--

CREATE TABLE public.posts (
    id integer
);

--
-- Name: f(integer); Type: FUNCTION; Schema: public; Owner: shop
--

CREATE FUNCTION public.f(integer) RETURNS text LANGUAGE sql AS $$
COPY x FROM stdin;
$$;

--
-- Data for Name: posts; Type: TABLE DATA; Schema: public; Owner: shop
--

COPY public.posts (id) FROM stdin;
1
\\N
\\\\.
3
\\.


--
-- Data for Name: empty; Type: TABLE DATA; Schema: public; Owner: shop
--

COPY public.empty (id) FROM stdin;
\\.


--
-- PostgreSQL database dump complete
--

\\unrestrict abc
"""


def test_objects_and_rows() -> None:
    found = digests([DUMP])
    assert list(found) == [
        ("TABLE", "public", "posts"),
        ("FUNCTION", "public", "f(integer)"),
        ("TABLE DATA", "public", "posts"),
        ("TABLE DATA", "public", "empty"),
    ]
    assert found["TABLE DATA", "public", "posts"].rows == 4
    assert found["TABLE DATA", "public", "empty"].rows == 0
    assert found["TABLE", "public", "posts"].rows is None


@pytest.mark.parametrize("seed", range(5))
def test_how_it_is_cut_does_not_matter(seed: int) -> None:
    source = random.Random(seed)
    pieces, position = [], 0
    while position < len(DUMP):
        size = source.randint(1, 60)
        pieces.append(DUMP[position : position + size])
        position += size
    assert digests(pieces) == digests([DUMP])


def read(pieces: Iterable[bytes], known: Known) -> Digests:
    parser = Parser(known)
    for piece in pieces:
        parser.feed(piece)
    return parser.finish()


def test_what_is_known_has_the_same_digest_wherever_it_is_cut() -> None:
    expected = digests([DUMP])
    for size in (1, 50, 200, 400, len(DUMP)):
        pieces = [DUMP[begin : begin + size] for begin in range(0, len(DUMP), size)]
        known = Known()
        assert read(pieces, known) == expected
        assert read([DUMP], known) == expected
        assert read(pieces, known) == expected


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (b"id integer", b"id bigint"),
        (b"id integer\n);\n", b"id integer\n);\nALTER TABLE public.posts OWNER TO other;\n"),
        (
            b"id integer\n);\n",
            b"id integer\n);\n\n\n--\n-- PostgreSQL, or something like it\n--\n\nSELECT 1;\n",
        ),
        (b"$$;\n\n--\n", b"$$;\n\n-- '\n"),
        (b"3\n", b"4\n"),
        (b"3\n", b""),
        (
            b"posts; Type: TABLE; Schema: public; Owner: shop",
            b"posts; Type: TABLE; Schema: public; Owner: other",
        ),
    ],
)
def test_what_differs_from_what_is_known_is_read(one: bytes, other: bytes) -> None:
    changed = DUMP.replace(one, other, 1)
    assert changed != DUMP
    for first, second in ((DUMP, changed), (changed, DUMP)):
        known = Known()
        assert read([first], known) == digests([first])
        assert read([second], known) == digests([second])


def test_only_known_texts_are_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    known, none = Known(), Known(limit=0)
    expected = read([DUMP], known)
    read([DUMP], none)
    monkeypatch.setattr(_Object, "digest", lambda each: Digest(f"of {each.key[2]}"))
    # What follows the last object has no header that would end it.
    assert {**expected, ("TABLE DATA", "public", "empty"): Digest("of empty")} == read([DUMP], known)
    assert all(each.sha256.startswith("of ") for each in read([DUMP], none).values())


ROWS = b"""--
-- Data for Name: part; Type: TABLE DATA; Schema: public; Owner: shop
--

COPY public.%s (b, a) FROM stdin;
%s\\.


"""


@pytest.mark.parametrize("table", [b"part", b"whole"])
@pytest.mark.parametrize("rows", [b"", b"\n\n", b"\\N\t1\n\\\\.\t2\n2\t\\\\.\n", b"1\t2\n\\N\t\\N\n"])
def test_rows_have_one_digest_wherever_they_are_cut(table: bytes, rows: bytes) -> None:
    """Also those of a partition, which are compared regardless of their order."""
    rows = rows.replace(b"\n\n", b"\t\n\t\n")
    dump = ROWS % (table, rows)
    expected = digests([dump])
    (data,) = expected.values()
    assert data.rows == rows.count(b"\n")
    assert bool(data.bag) == (table == b"whole" and bool(rows))
    for first in range(len(dump)):
        for second in range(first, min(first + 8, len(dump))):
            assert digests([dump[:first], dump[first:second], dump[second:]]) == expected
    assert digests([dump[each : each + 1] for each in range(len(dump))]) == expected


def test_a_row_of_many_pieces_is_never_held_as_a_whole() -> None:
    """To join it again with each piece would take a time that grows with the square of its length."""
    before, after = (ROWS % (b"part", b"x\n")).split(b"x")
    piece = b"7" * (1 << 17)

    def parts() -> Iterator[bytes]:
        yield before
        for _ in range(200):
            yield piece[:]
        yield after

    tracemalloc.start()
    try:
        (data,) = digests(parts()).values()
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (data.rows, most < 4 * len(piece)) == (1, True), f"{most:,} bytes"


@pytest.mark.parametrize(
    ("before", "after", "key", "expected", "found"),
    [
        (b"\n3\n", b"\n4\n", ("TABLE DATA", "public", "posts"), "digest ", "digest "),
        (b"\n3\n", b"\n", ("TABLE DATA", "public", "posts"), "4 rows", "3 rows"),
        (b"id integer\n", b"id bigint\n", ("TABLE", "public", "posts"), "id integer", "id bigint"),
        (
            b"Type: TABLE; Schema: public; Owner: shop",
            b"Type: TABLE; Schema: public; Owner: eve",
            ("TABLE", "public", "posts"),
            "digest ",
            "digest ",
        ),
    ],
)
def test_differences_are_named(
    before: bytes, after: bytes, key: tuple[str, str, str], expected: str, found: str
) -> None:
    differences = list(compare(digests([DUMP]), digests([DUMP.replace(before, after)])))
    assert [difference[0] for difference in differences] == [key]
    assert differences[0][1].startswith(expected)
    assert differences[0][2].startswith(found)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"-- the tax is 19", b"-- the tax is 21"),
        (b"SET default_tablespace = x", b"SET default_tablespace = y"),
        (b"\n\nRETURN", b"\nRETURN"),
        (b"RETURN 1;\r\n", b"RETURN 1;\n"),
    ],
)
def test_headers_inside_a_function_body_are_text(before: bytes, after: bytes) -> None:
    """Comments, settings, empty lines and line ends within a definition are part of it."""
    body = b"AS $$\n-- the tax is 19\nSET default_tablespace = x;\n\nRETURN 1;\r\n"
    dump = DUMP.replace(b"AS $$\n", body)
    ((key, expected, found),) = compare(digests([dump]), digests([dump.replace(before, after)]))
    assert key == ("FUNCTION", "public", "f(integer)")
    assert expected != found


def test_missing_objects_are_named() -> None:
    without = DUMP[: DUMP.index(b"-- Name: f(")] + DUMP[DUMP.index(b"-- Data for Name: posts") :]
    assert list(compare(digests([DUMP]), digests([without]))) == [
        (("FUNCTION", "public", "f(integer)"), "an object", "nothing")
    ]
    assert next(compare(digests([without]), digests([DUMP])))[1:] == ("nothing", "an object")


def test_tokens_and_comments_do_not_count() -> None:
    assert digests([DUMP.replace(b"abc", b"xyz").replace(b"dump complete", b"done")]) == digests([DUMP])


OBJECT = b"SELECT pg_catalog.lo_open('%d', 131072);\nSELECT pg_catalog.lowrite(0, '\\x%s');\nSELECT pg_catalog.lo_close(0);\n\n"
GROUP = b"-- Data for Name: %s; Type: BLOBS; Schema: -; Owner: %s\n\nBEGIN;\n\n%sCOMMIT;\n\n--\n"


def test_large_objects_are_equal_in_other_groups() -> None:
    """Until PostgreSQL 17, pg_dump writes all in one group, regardless of their owners."""
    one, two, three = (OBJECT % (number, byte) for number, byte in ((1, b"01"), (2, b""), (3, b"02")))
    together = digests([DUMP + GROUP % (b"BLOBS", b"-", one + two + three)])
    apart = digests([DUMP + GROUP % (b"1..3", b"a", one + three) + GROUP % (b"2", b"b", two)])
    other = digests(
        [DUMP + GROUP % (b"1..3", b"a", one + two.replace(b"'2'", b"'4'")) + GROUP % (b"3", b"b", three)]
    )
    lost = digests([DUMP + GROUP % (b"1..3", b"a", one + three)])
    none = digests([DUMP])
    assert [key[0] for key, *_ in compare(together, apart)] == ["BLOBS", "BLOBS", "BLOBS"]
    assert list(compare(*map(with_large_objects_together, (together, apart)))) == []
    for found in (other, lost, none):
        ((key, *_),) = compare(*map(with_large_objects_together, (together, found)))
        assert key == ("BLOBS", "-", "large objects")


def test_no_part_of_a_large_object_is_shown() -> None:
    """Reports are not encrypted."""
    dump = (
        DUMP
        + b"-- Name: BLOBS; Type: BLOBS; Schema: -; Owner: -\n\nSELECT pg_catalog.lowrite(0, '\\x736563726574');\n"
    )
    ((key, expected, found),) = compare(digests([dump]), digests([dump.replace(b"x73", b"x74")]))
    assert key[0] == "BLOBS"
    assert "736563726574" not in expected + found
    assert expected.startswith("digest ")
    assert expected != found


class Slow:
    """An archive's text in three pieces, and the priorities of those who read it."""

    def __init__(self) -> None:
        self.priorities: list[int] = []
        self.begun, self.go_on = threading.Event(), threading.Event()

    def __call__(self, *_: object, **__: object) -> "Slow":
        return self

    def __enter__(self) -> Self:
        self.started_at = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def read(self) -> bytes:
        pieces = [DUMP[:50], DUMP[50:], b""]
        self.priorities.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
        if len(self.priorities) == 1:
            self.begun.set()
            self.go_on.wait(60)
        return pieces[len(self.priorities) - 1]


def _read(monkeypatch: pytest.MonkeyPatch, source: Slow) -> None:
    monkeypatch.setattr("backup.verify.dumps.ChildSource", source)
    programs = cast("Programs", SimpleNamespace(path=str))
    with reading(programs, Path("archive"), lambda: None) as archive:
        assert source.begun.wait(60)
        found = archive.hurry()
        source.go_on.set()
        assert found.result(60) == digests([DUMP])


def test_an_archive_gives_way_to_the_restore_but_not_to_the_comparison(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On a busy host, a comparison waited four times as long as it took for a reader that still gave way."""
    own, source = os.getpriority(os.PRIO_PROCESS, 0), Slow()
    _read(monkeypatch, source)
    assert source.started_at == own
    assert source.priorities == [max(own, NICENESS), own, own]


def test_a_process_that_gives_way_already_keeps_doing_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """An ordinary user may not take back what ``nice -n 15`` has given."""
    given: list[int] = []
    monkeypatch.setattr("os.getpriority", lambda *_: 15)
    monkeypatch.setattr("os.setpriority", lambda _kind, _thread, niceness: given.append(niceness))
    _read(monkeypatch, Slow())
    assert given == [15]


def test_what_code_in_the_database_writes_instead_of_rows_is_not_read(tmp_path: Path) -> None:
    """Reading a pipe that is filled repeatedly would never end."""
    pipe, written = tmp_path / "rows-0-0", Future[tuple[Path, int]]()
    os.mkfifo(pipe)
    written.set_result((pipe, 1))
    with pytest.raises(OSError, match="is not a regular file"):
        large_tables._digest(written, Rows(b"owner", b"COPY"), lambda: None, lambda _: None)
    assert not pipe.exists()
