"""SQL scripts are split by PostgreSQL's quoting rules; the real server decides whether a piece is a statement."""

import psycopg
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from psycopg import sql

from backup.postgres.statements import Splitter, join, lines, simple, split
from stack.servers import Postgres

AWKWARD = [
    "plain",
    "two\nlines",
    "-- a comment",
    "; DROP TABLE t;",
    "it's",
    'a "name"',
    "\\",
    "\\'",
    "$$",
    "$x$ $x$",
]
AWKWARD += [
    "/* open",
    "*/",
    "U&",
    "e'",
    "\u2028\u0085\x0b\x0c",
    "\\restrict x\n",
    "SET a;\n--\n",
    "('",
    "begin case end",
]
TEXTS = st.lists(st.sampled_from([*AWKWARD, "\n", " ", "ž", "E"]), max_size=6).map("".join)


def statement(text: str) -> bytes:
    return (
        sql.SQL("COMMENT ON ROLE {} IS {};")
        .format(sql.Identifier(text or "x"), sql.Literal(text))
        .as_string()
        .encode()
    )


@settings(max_examples=300, deadline=None)
@given(st.lists(TEXTS, min_size=1, max_size=5))
def test_statements_come_back_whatever_their_strings_hold(texts: list[str]) -> None:
    wanted = [statement(text) for text in texts]
    script = (
        b"--\n-- head; of it\n--\n\n\\restrict abc\n"
        + b"\n\n-- between; '\n".join(wanted)
        + b"\n\\unrestrict abc\n"
    )
    assert split(script) == wanted


@pytest.mark.parametrize(
    "text",
    [
        "SELECT E'it\\'s; ''quoted'';\\\\';",
        "SELECT 'a'';b', \"c\"\";d\";",
        "DO $$ BEGIN PERFORM 1; PERFORM ';'; END $$;",
        "DO $a$ BEGIN PERFORM $$;$$; END $a$;",
        "SELECT 1 /* ; /* ; */ ; */ + 1;",
        "SELECT 1 -- ; '\n + 1;",
        "CREATE RULE r AS ON INSERT TO t DO ALSO (DELETE FROM u; DELETE FROM t);",
        "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; SELECT CASE WHEN true THEN 1 END; END;",
        "CREATE OR REPLACE PROCEDURE p()\n BEGIN ATOMIC\n INSERT INTO t VALUES (';');\n END;",
        "CREATE FUNCTION f(begin int, atomic int) RETURNS TABLE(begin atomic)\n LANGUAGE sql\n AS $$select 1$$;",
        "CREATE PROCEDURE s.begin()\n LANGUAGE sql\n AS 'SELECT 1';",
        "CREATE FUNCTION f() RETURNS int\n BEGIN ATOMIC\n SELECT t.begin AS atomic, CASE t.begin WHEN 1 THEN 2 END FROM t;\nEND;",
        "CREATE FUNCTION f() RETURNS int\n BEGIN ATOMIC\n SELECT t.begin atomic FROM t;\n SELECT 1;\nEND;",
        "SELECT a$b$ FROM t WHERE c = $1;",
        "SELECT type'x', N'y', U&'\\0041' UESCAPE '\\';",
        "SELECT 1 AS begin;",
        "SELECT E'\\\\', ';';",
        "SELECT E'a\\\nb''\n;';",
    ],
)
def test_semicolons_that_end_nothing(text: str) -> None:
    other = b"SELECT 2;"
    assert split(join([text.encode(), other])) == [text.encode(), other]


def test_backslashes_as_the_script_says() -> None:
    off, on = b"SET standard_conforming_strings = off;", b"SET standard_conforming_strings = on;"
    assert split(join([off, rb"SELECT 'a\';b';", on, rb"SELECT 'a\';", b"SELECT 'b';"])) == [
        off,
        rb"SELECT 'a\';b';",
        on,
        rb"SELECT 'a\';",
        b"SELECT 'b';",
    ]


def test_what_does_not_end_is_kept() -> None:
    assert split(b"SELECT 1;\nSELECT 'open\n;\n") == [b"SELECT 1;", b"SELECT 'open\n;\n"]
    assert split(b"SELECT 1") == [b"SELECT 1"]
    assert split(b"-- nothing\n\n/* ; */\n") == []


def test_only_line_feeds_end_lines() -> None:
    text = "a\u2028b\x0bc\rd\ne".encode()
    assert list(lines(text)) == ["a\u2028b\x0bc\rd\n".encode(), b"e"]


def test_between_statements() -> None:
    splitter = Splitter()
    for line, between in [
        (b"-- x\n", True),
        (b"SELECT '\n", False),
        (b"-- y\n", False),
        (b"';\n", True),
        (b"/*\n", False),
    ]:
        splitter.line(line)
        assert splitter.between is between, line


@settings(max_examples=60, deadline=None)
@given(st.lists(TEXTS.filter(lambda text: "\0" not in text), min_size=1, max_size=4))
def test_the_server_reads_each_piece_alike(postgres: Postgres, texts: list[str]) -> None:
    script = join(sql.SQL("SELECT {};").format(sql.Literal(text)).as_string().encode() for text in texts)
    with psycopg.connect(postgres.url) as connection:
        found = [connection.execute(piece).fetchone() for piece in split(script)]
    assert found == [(text,) for text in texts]


STARTS = [
    "COMMENT ON TABLE t IS ",
    "CREATE RULE r AS ON INSERT TO t DO (",
    "CREATE FUNCTION f() ",
    "SET x = ",
]
TOKENS = [
    "BEGIN ATOMIC ",
    "END",
    "'a'",
    "'(;'",
    "'",
    '"',
    "E'",
    "$$",
    "\\",
    "--",
    "-",
    "/*",
    "*/",
    "/",
    "(",
    ")",
    ";\n",
    ";",
    "\n",
    " ",
]
PIECES = st.lists(st.sampled_from(TOKENS), max_size=10).map("".join)


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(STARTS), PIECES)
@example("COMMENT ON TABLE t IS ", ")(;\n")
@example("COMMENT ON TABLE t IS ", "';\n")
@example("COMMENT ON TABLE t IS ", "'a;\nb';\n")
def test_simple_statements_end_where_the_splitter_ends_them(start: str, rest: str) -> None:
    data = f"{start}{rest}".encode()
    statement = simple(data, 0)
    if statement is not None:
        splitter = Splitter()
        found = [each for line in lines(data[: len(statement) + 1]) for each in splitter.line(line)]
        assert found == [statement]
        assert splitter.between


def test_most_of_a_dump_is_simple_statements() -> None:
    one, other = (
        b"CREATE TABLE t (\n    a text DEFAULT ')'::text\n);\n",
        b"ALTER TABLE ONLY t ADD CHECK (a > '-');\n",
    )
    assert simple(one + other, 0) == one[:-1]
    assert simple(one + other, len(one)) == other[:-1]
    assert simple(one[:-2], 0) is None
