"""SQL from a store reaches the server one statement at a time, and nothing else reads it."""

import time

import psycopg
import pytest

from backup.cancellation import StoppedError
from backup.catalogue.manifest import Table
from backup.errors import VerificationError
from backup.load.execution import carry_out
from backup.postgres.dsn import Address, parse
from backup.restore.tables import StatementRewriter
from stack.servers import Postgres


@pytest.fixture
def address(postgres: Postgres) -> Address:
    return parse(postgres.url)


def found(address: Address, *statements: bytes) -> list[str]:
    return [each.found for each in carry_out(address, "globals", statements)]


def test_each_statement_alone(address: Address, postgres: Postgres) -> None:
    [refusal] = found(address, b"CREATE ROLE smuggled; CREATE ROLE smuggled_too", b"SELECT 1")
    assert "multiple commands" in refusal
    [refusal] = found(address, b"\\! touch /tmp/x", b"SELECT '%s', '\\';")
    assert "syntax error" in refusal
    with psycopg.connect(postgres.url) as connection:
        assert (
            connection.execute("SELECT count(*) FROM pg_roles WHERE rolname ~ 'smuggled'").fetchone() or ()
        )[0] == 0


def test_a_statement_that_waits_for_rows(address: Address) -> None:
    refused = found(address, b"COPY pg_class FROM STDIN", b"SELECT 1")
    assert refused[1:] == ["the statements after it were not carried out"]


def test_many_refusals_are_counted(address: Address) -> None:
    refused = found(address, *[b"SELECT nothing"] * 50)
    assert len(refused) == 21
    assert refused[-1] == "30 more errors"


def test_a_server_that_ends_says_nothing_about_the_statements(address: Address) -> None:
    with pytest.raises(VerificationError, match="could not continue"):
        carry_out(address, "globals", [b"SELECT pg_terminate_backend(pg_backend_pid())"])


def test_a_request_to_stop_ends_a_statement(address: Address, postgres: Postgres) -> None:
    begun = time.monotonic()

    def check() -> None:
        if time.monotonic() > begun + 1:
            raise StoppedError("stopped", hint="again")

    with pytest.raises(StoppedError):
        carry_out(address, "globals", [b"SELECT pg_sleep(300), 'of test_execution'"], check)
    assert time.monotonic() - begun < 30
    with psycopg.connect(postgres.url) as connection:
        running = "SELECT count(*) FROM pg_stat_activity WHERE query ~ 'of test_exec' AND pid <> pg_backend_pid() AND state = 'active'"
        assert (connection.execute(running).fetchone() or ())[0] == 0


DUMP = b"""--
-- PostgreSQL database dump
--
SET statement_timeout = 0;
SET client_encoding = 'UTF8';
SELECT pg_catalog.set_config('search_path', '', false);
--
-- Name: t; Type: TABLE; Schema: a; Owner: -
--
CREATE TABLE a.t (
    i integer DEFAULT length('x;
CREATE TABLE a.t (
-- Name: u; Type: TABLE; Schema: a; Owner: -
')
);
%s
--
-- Data for Name: t; Type: TABLE DATA; Schema: a; Owner: -
--
COPY a.t ("i;
j") FROM stdin;
1
DROP TABLE live;
\\.
"""


def rewritten(hostile: bytes = b"") -> list[tuple[str, bytes]]:
    names = {name: name for name in ("a", "t", "side")}
    rewriter = StatementRewriter([Table(schema="a", name="t", rows=1)], "side", names)
    lines = (DUMP % hostile).splitlines(keepends=True)
    return [(piece.kind, piece.text) for piece in rewriter.pieces(lines)]


def test_only_statements_about_the_tables_are_carried_out() -> None:
    pieces = rewritten(b"ALTER TABLE ONLY a.t REPLICA IDENTITY FULL;")
    assert [text for kind, text in pieces if kind == "statement"] == [
        b"SET client_encoding = 'UTF8';",
        b"CREATE TABLE side.t (\n    i integer DEFAULT length('x;\nCREATE TABLE a.t (\n-- Name: u; Type: TABLE; Schema: a; Owner: -\n')\n);",
        b"ALTER TABLE ONLY side.t REPLICA IDENTITY FULL;",
        b'COPY side.t ("i;\nj") FROM stdin;',
    ]
    assert pieces[-2:] == [("rows", b"1\nDROP TABLE live;\n"), ("end", b"\\.\n")]


@pytest.mark.parametrize(
    "hostile",
    [
        b"DROP TABLE public.live;",
        b"DO $$ BEGIN END $$;",
        b"ALTER TABLE public.live ADD x int;",
        b"\\! touch x",
        b"SELECT pg_catalog.set_config('role', 'boss', false);",
        b"GRANT ALL ON a.t TO PUBLIC;",
        b"COPY a.t TO PROGRAM 'x';",
        b"COPY a.t FROM '/x';",
        b"COPY public.live FROM stdin;\n\\.",
        b"COPY a.t TO PROGRAM 'x';\nCOPY public.live FROM stdin;\n\\.",
        b"CREATE TABLE a.tt (i int);",
    ],
)
def test_anything_else_in_a_tables_entry_is_refused(hostile: bytes) -> None:
    with pytest.raises(VerificationError, match="NOTHING was restored"):
        rewritten(hostile)
