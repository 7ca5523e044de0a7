"""Everything about roles and the database as a whole is restored byte by byte on a server that has none of it."""

import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from stack.servers import Postgres
from tests.backup.conftest import NewDatabase
from tests.backup.restorekit import Command

COMMENT = "PostHub production\n-- owner: Jana\nSET by ops\nALTER DATABASE x is never allowed; \"'\\\nlast\u2028\u0085line"
SETTING = "one\n-- two\nthree; '"
INSIDE = "customers\n-- owner: Jana\nSET default_tablespace = '';\n\\restrict x\n-- Name: t; Type: TABLE; Schema: public; Owner: x\n"
ABOUT = """
SELECT shobj_description(d.oid, 'pg_database'), datconnlimit, (SELECT array_agg(acl::text ORDER BY acl::text) FROM unnest(datacl) acl), pg_get_userbyid(datdba),
  (SELECT array_agg(coalesce(r.rolname, '') || array_to_string(setconfig, '|') ORDER BY 1)
   FROM pg_db_role_setting s LEFT JOIN pg_roles r ON r.oid = setrole WHERE setdatabase = d.oid)
FROM pg_database d WHERE datname = current_database()
"""
ROLES = """
SELECT rolname, rolcanlogin, rolconnlimit, rolconfig, shobj_description(oid, 'pg_authid'),
  (SELECT array_agg(pg_get_userbyid(roleid) ORDER BY 1) FROM pg_auth_members WHERE member = r.oid)
FROM pg_roles r WHERE rolname LIKE %s ORDER BY 1
"""
INSIDE_ONES = """
SELECT array_agg(description ORDER BY description) FROM pg_description d WHERE description LIKE %s
"""


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """A server without any of our roles."""
    with Postgres(tmp_path_factory.mktemp("bare")) as server:
        yield server


@pytest.fixture
def command(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    return Command(environ, monkeypatch, capsys)


@pytest.fixture
def awkward(postgres: Postgres, tmp_path: Path) -> tuple[str, str]:
    """A database and the prefix of its roles, with everything in more than one line."""
    prefix = f"r{secrets.token_hex(3)}"
    name = f"awkward_{prefix}"
    role = {part: sql.Identifier(f"{prefix} {part}") for part in ("owner", "reader", "login")}
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        for each in role.values():
            connection.execute(sql.SQL("CREATE ROLE {} CONNECTION LIMIT 7").format(each))
            connection.execute(sql.SQL("COMMENT ON ROLE {} IS {}").format(each, sql.Literal(INSIDE)))
        connection.execute(sql.SQL("ALTER ROLE {} LOGIN").format(role["login"]))
        connection.execute(
            sql.SQL("ALTER ROLE {} SET application_name TO {}").format(role["owner"], sql.Literal(SETTING))
        )
        connection.execute(sql.SQL("GRANT {} TO {}").format(role["owner"], role["login"]))
        for statement in (
            sql.SQL("CREATE DATABASE {db} OWNER {owner}"),
            sql.SQL("COMMENT ON DATABASE {db} IS {comment}"),
            sql.SQL("ALTER DATABASE {db} SET app.note TO {setting}"),
            sql.SQL("ALTER DATABASE {db} SET search_path TO public, {reader}"),
            sql.SQL("ALTER DATABASE {db} SET statement_timeout TO '3ms'"),
            sql.SQL("ALTER DATABASE {db} SET default_transaction_read_only TO on"),
            sql.SQL("ALTER ROLE {reader} IN DATABASE {db} SET app.note TO {setting}"),
            sql.SQL("ALTER DATABASE {db} CONNECTION LIMIT 77"),
            sql.SQL("REVOKE CONNECT ON DATABASE {db} FROM PUBLIC"),
            sql.SQL("GRANT CREATE ON DATABASE {db} TO {reader} WITH GRANT OPTION"),
        ):
            connection.execute(
                statement.format(
                    db=sql.Identifier(name),
                    comment=sql.Literal(COMMENT),
                    setting=sql.Literal(SETTING),
                    **role,
                )
            )
    with psycopg.connect(
        postgres.url_for(name),
        options="-c default_transaction_read_only=off -c statement_timeout=0",
        autocommit=True,
    ) as inner:
        for statement in (
            sql.SQL("CREATE TABLE t (a int PRIMARY KEY, b text)"),
            sql.SQL("ALTER TABLE t OWNER TO {owner}; GRANT SELECT ON t TO {reader}"),
            sql.SQL("CREATE INDEX i ON t (b) WHERE b <> E'p\\n--q'"),
            sql.SQL("CREATE POLICY p ON t USING (b <> E'w\\n--x')"),
            sql.SQL("CREATE RULE r AS ON DELETE TO t DO ALSO SELECT E'k\\n--m'"),
            sql.SQL("CREATE FUNCTION f() RETURNS text LANGUAGE sql AS 'SELECT ''; -- ;'''"),
            sql.SQL("COMMENT ON TABLE t IS {text}"),
            sql.SQL("COMMENT ON COLUMN t.b IS {text}"),
            sql.SQL("COMMENT ON INDEX i IS {text}"),
            sql.SQL("COMMENT ON POLICY p ON t IS {text}"),
            sql.SQL("COMMENT ON FUNCTION f() IS {text}"),
            sql.SQL("INSERT INTO t VALUES (1, {text})"),
        ):
            inner.execute(statement.format(text=sql.Literal(INSIDE), **role))
    return name, prefix


def facts(server: Postgres, database: str, prefix: str) -> tuple[Any, ...]:
    with psycopg.connect(server.url_for(database), options="-c statement_timeout=0") as connection:
        return (
            connection.execute(ABOUT).fetchone(),
            connection.execute(ROLES, [f"{prefix}%"]).fetchall(),
            connection.execute(INSIDE_ONES, ["customers%"]).fetchone(),
        )


def test_on_a_server_that_lacks_it_all(
    command: Command, postgres: Postgres, bare: Postgres, awkward: tuple[str, str]
) -> None:
    name, prefix = awkward
    with psycopg.connect(bare.url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    there = {"DATABASE_URL": postgres.url_for(name), "BACKUP_RESTORE_URL": bare.url_for(name)}
    command.passed("run", **there)
    report = command("verify", "--json", **there).json
    assert report["differences"] == []
    restored = command("restore", "--json", **there)
    assert restored.json["differences"] == [], restored.err
    into = restored.json["into"]
    command.passed("promote", into, "--yes-i-mean", name, **there)
    [note] = [each for each in restored.json["notes"] if "without these rights" in each]
    assert f'ALTER ROLE "{prefix} login" WITH LOGIN;' in note
    assert facts(bare, name, prefix)[1] != facts(postgres, name, prefix)[1]
    with psycopg.connect(bare.url, autocommit=True) as connection:
        connection.execute(sql.SQL("ALTER ROLE {} LOGIN").format(sql.Identifier(f"{prefix} login")))
    mine, theirs = facts(postgres, name, prefix), facts(bare, name, prefix)
    assert theirs[0][0].rpartition("\n")[0] == mine[0][0]  # the last line is our mark
    assert theirs[0][1:] == mine[0][1:]
    assert theirs[1:] == mine[1:]


def test_old_superusers_do_not_come_back(
    command: Command, postgres: Postgres, bare: Postgres, new_database: NewDatabase
) -> None:
    """Neither by their own rights, nor by a membership. The proof knows both roles, and the drill takes the same path."""
    gone = f"gone_{secrets.token_hex(3)}"
    name = new_database(
        f"CREATE ROLE {gone} SUPERUSER LOGIN CREATEROLE PASSWORD 'x'; CREATE ROLE {gone}_too;"
        f" GRANT pg_execute_server_program, {gone} TO {gone}_too; COMMENT ON ROLE {gone} IS E'two\\nlines; it''s \\\\ \"odd\"';"
        f" ALTER ROLE {gone} SET application_name TO E'a\\n;''\\\\';"
        f" CREATE TABLE t (id int); ALTER TABLE t OWNER TO {gone}; GRANT SELECT ON t TO {gone}_too"
    )
    with psycopg.connect(bare.url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    there = {"DATABASE_URL": postgres.url_for(name), "BACKUP_RESTORE_URL": bare.url_for(name)}
    command.passed("run", **there)
    assert command.passed("verify", **there)["differences"] == []
    restored = command.passed("restore", **there)
    assert restored["differences"] == []
    notes = [each for each in restored["notes"] if "without these rights" in each]
    assert [f"ALTER ROLE {gone} WITH SUPERUSER CREATEROLE LOGIN;" in each for each in notes] == [True, False]
    assert f"GRANT pg_execute_server_program TO {gone}_too;" in notes[1]
    with psycopg.connect(bare.url) as connection:
        found = connection.execute(
            "SELECT rolname, rolcanlogin, rolsuper, rolcreaterole, shobj_description(oid, 'pg_authid'), rolconfig,"
            " (SELECT array_agg(pg_get_userbyid(roleid)::text) FROM pg_auth_members WHERE member = r.oid)"
            " FROM pg_roles r WHERE rolname LIKE %s ORDER BY 1",
            [f"{gone}%"],
        ).fetchall()
    assert found == [
        (gone, False, False, False, 'two\nlines; it\'s \\ "odd"', ["application_name=a\n;'\\"], None),
        (f"{gone}_too", False, False, False, None, None, [gone]),
    ]
    drilled = command.passed("drill", **there)
    assert [each for each in drilled["notes"] if "without these rights" in each] == notes
