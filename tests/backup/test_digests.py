"""Digests of dumps as text, by table and by object."""

import random
from pathlib import Path
from typing import cast

import pytest

from backup.programs import Programs
from backup.verify.compare import reading
from backup.verify.digests import compare, digests

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
        (("FUNCTION", "public", "f(integer)"), "it exists", "nothing")
    ]
    assert next(compare(digests([without]), digests([DUMP])))[1:] == ("nothing", "it exists")


def test_tokens_and_comments_do_not_count() -> None:
    assert digests([DUMP.replace(b"abc", b"xyz").replace(b"dump complete", b"done")]) == digests([DUMP])


def test_no_part_of_a_large_object_is_shown() -> None:
    """Reports are not encrypted."""
    dump = (
        DUMP
        + b"-- Name: BLOBS; Type: BLOBS; Schema: -; Owner: -\n\nSELECT pg_catalog.lowrite(0, '\\x736563726574');\n"
    )
    ((key, expected, found),) = compare(digests([dump]), digests([dump.replace(b"x73", b"x74")]))
    assert key[0] == "BLOBS"
    assert "736563726574" not in expected + found
    assert (expected[:7], expected != found) == ("digest ", True)


def test_a_process_that_gives_way_already_keeps_doing_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """An ordinary user may not take back what ``nice -n 15`` has given."""
    given: list[int] = []
    monkeypatch.setattr("os.getpriority", lambda *_: 15)
    monkeypatch.setattr("os.setpriority", lambda _kind, _thread, niceness: given.append(niceness))
    monkeypatch.setattr("backup.verify.compare._archive_digests", lambda *_: {})
    with reading(cast("Programs", None), Path("archive"), lambda: None) as digests:
        assert digests.result() == {}
    assert given == [15]
