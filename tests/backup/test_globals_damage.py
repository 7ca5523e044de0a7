"""Damage to roles, and to properties of the database as a whole, must be named.

The backup is restored once, as in a verification. Each case damages the copy, and undoes it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from backup.catalogue.records import Difference
from backup.load.download import download
from backup.load.execution import carry_out
from backup.load.pg_restore import load_archive
from backup.load.properties import properties
from backup.load.throwaway import private_folder
from backup.verify.compare import compare_dumps
from backup.verify.scratch import Scratch, scratch
from stack.servers import Postgres
from tests.backup.conftest import BackUp, NewDatabase

ROLES = r"""
CREATE ROLE dmg_owner NOLOGIN CONNECTION LIMIT 7;
CREATE ROLE dmg_app LOGIN VALID UNTIL '2031-01-01';
CREATE ROLE dmg_reader NOINHERIT;
COMMENT ON ROLE dmg_app IS E'the application\n-- ask Jana first\nSET by ops';
ALTER ROLE dmg_app SET work_mem TO '7MB';
ALTER ROLE dmg_app SET app.note TO E'one\n-- two\nthree';
GRANT dmg_owner TO dmg_app WITH ADMIN OPTION;
GRANT dmg_reader TO dmg_app WITH INHERIT FALSE;
CREATE ROLE dmg_giver;
CREATE ROLE dmg_guest;
GRANT dmg_owner TO dmg_giver WITH ADMIN OPTION;
GRANT dmg_owner TO dmg_guest GRANTED BY dmg_giver;
GRANT pg_read_all_data TO dmg_guest;
ALTER ROLE dmg_guest SET search_path TO 'b c', "$user";
ALTER ROLE dmg_guest SET app.empty TO '';
GRANT SET ON PARAMETER log_statement TO dmg_app;
GRANT SET ON PARAMETER work_mem TO dmg_giver WITH GRANT OPTION;
GRANT SET ON PARAMETER maintenance_work_mem TO dmg_giver WITH GRANT OPTION;
SET ROLE dmg_giver;
GRANT SET ON PARAMETER maintenance_work_mem TO dmg_guest, dmg_reader;
RESET ROLE;
GRANT SET ON PARAMETER maintenance_work_mem TO dmg_guest;
CREATE ROLE "dmg Ünicode;x" LOGIN INHERIT CONNECTION LIMIT 0 VALID UNTIL '2030-06-01 12:00:00+02';
COMMENT ON ROLE "dmg Ünicode;x" IS '';
COMMENT ON ROLE dmg_giver IS E'tab\there, \'quote\' and \\ backslash';
ALTER ROLE "dmg Ünicode;x" SET TimeZone TO 'Europe/Prague';
ALTER ROLE dmg_giver SET session_preload_libraries TO '';
GRANT dmg_reader TO "dmg Ünicode;x" WITH ADMIN OPTION;
GRANT pg_monitor TO dmg_giver WITH ADMIN OPTION;
"""
DATABASE = r"""
DO $do$ DECLARE db text := quote_ident(current_database()); BEGIN
  EXECUTE 'ALTER DATABASE ' || db || ' OWNER TO dmg_owner';
  EXECUTE 'COMMENT ON DATABASE ' || db || E' IS E''production\\n-- owner: Jana\\nSET by ops''';
  EXECUTE 'ALTER DATABASE ' || db || ' SET work_mem TO ''9MB''';
  EXECUTE 'ALTER DATABASE ' || db || E' SET app.note TO E''one\\n-- two\\nthree''';
  EXECUTE 'ALTER ROLE dmg_app IN DATABASE ' || db || ' SET app.note TO ''mine''';
  EXECUTE 'ALTER DATABASE ' || db || ' CONNECTION LIMIT 77';
  EXECUTE 'REVOKE CONNECT ON DATABASE ' || db || ' FROM PUBLIC';
  EXECUTE 'GRANT CONNECT ON DATABASE ' || db || ' TO dmg_reader';
  EXECUTE 'GRANT CREATE ON DATABASE ' || db || ' TO dmg_app WITH GRANT OPTION';
  EXECUTE 'ALTER DATABASE ' || db || ' SET app.empty TO ''''';
  EXECUTE 'ALTER DATABASE ' || db || ' SET search_path TO ''a'', ''b,c'', "D"';
  EXECUTE 'GRANT CREATE ON DATABASE ' || db || ' TO dmg_giver WITH GRANT OPTION';
  SET ROLE dmg_giver;
  EXECUTE 'GRANT CREATE ON DATABASE ' || db || ' TO dmg_guest';
  RESET ROLE;
  EXECUTE 'ALTER DATABASE ' || db || ' SET TimeZone TO ''Europe/Prague''';
  EXECUTE 'ALTER DATABASE ' || db || ' SET statement_timeout TO ''30s''';
  EXECUTE 'ALTER ROLE "dmg Ünicode;x" IN DATABASE ' || db || ' SET search_path TO "x y", public';
  EXECUTE 'GRANT TEMPORARY ON DATABASE ' || db || ' TO "dmg Ünicode;x" WITH GRANT OPTION';
END $do$;
CREATE TABLE t (a int);
"""
# The damage, and the statement that undoes it. {0} is the database.
OF_ROLES = {
    "may log in": ("ALTER ROLE dmg_owner LOGIN", "ALTER ROLE dmg_owner NOLOGIN", "dmg_owner"),
    "may not log in": ("ALTER ROLE dmg_app NOLOGIN", "ALTER ROLE dmg_app LOGIN", "dmg_app"),
    "superuser": ("ALTER ROLE dmg_owner SUPERUSER", "ALTER ROLE dmg_owner NOSUPERUSER", "dmg_owner"),
    "createdb": ("ALTER ROLE dmg_owner CREATEDB", "ALTER ROLE dmg_owner NOCREATEDB", "dmg_owner"),
    "createrole": ("ALTER ROLE dmg_owner CREATEROLE", "ALTER ROLE dmg_owner NOCREATEROLE", "dmg_owner"),
    "replication": ("ALTER ROLE dmg_owner REPLICATION", "ALTER ROLE dmg_owner NOREPLICATION", "dmg_owner"),
    "bypassrls": ("ALTER ROLE dmg_owner BYPASSRLS", "ALTER ROLE dmg_owner NOBYPASSRLS", "dmg_owner"),
    "inherit": ("ALTER ROLE dmg_reader INHERIT", "ALTER ROLE dmg_reader NOINHERIT", "dmg_reader"),
    "another connection limit": (
        "ALTER ROLE dmg_owner CONNECTION LIMIT 8", "ALTER ROLE dmg_owner CONNECTION LIMIT 7", "dmg_owner",
    ),
    "another end": (
        "ALTER ROLE dmg_app VALID UNTIL '2032-01-01'", "ALTER ROLE dmg_app VALID UNTIL '2031-01-01'", "dmg_app",
    ),
    "no end": ("ALTER ROLE dmg_app VALID UNTIL 'infinity'", "ALTER ROLE dmg_app VALID UNTIL '2031-01-01'", "dmg_app"),
    "a comment is gone": (
        "COMMENT ON ROLE dmg_app IS NULL",
        r"COMMENT ON ROLE dmg_app IS E'the application\n-- ask Jana first\nSET by ops'", "dmg_app",
    ),
    "a line in the middle of a comment": (
        r"COMMENT ON ROLE dmg_app IS E'the application\nSET by ops'",
        r"COMMENT ON ROLE dmg_app IS E'the application\n-- ask Jana first\nSET by ops'", "dmg_app",
    ),
    "the last line of a comment": (
        r"COMMENT ON ROLE dmg_app IS E'the application\n-- ask Jana first'",
        r"COMMENT ON ROLE dmg_app IS E'the application\n-- ask Jana first\nSET by ops'", "dmg_app",
    ),
    "a comment too many": ("COMMENT ON ROLE dmg_owner IS 'x'", "COMMENT ON ROLE dmg_owner IS NULL", "dmg_owner"),
    "another setting": ("ALTER ROLE dmg_app SET work_mem TO '8MB'", "ALTER ROLE dmg_app SET work_mem TO '7MB'", "dmg_app"),
    "a setting is gone": ("ALTER ROLE dmg_app RESET work_mem", "ALTER ROLE dmg_app SET work_mem TO '7MB'", "dmg_app"),
    "a line of a setting": (
        r"ALTER ROLE dmg_app SET app.note TO E'one\nthree'",
        r"ALTER ROLE dmg_app SET app.note TO E'one\n-- two\nthree'", "dmg_app",
    ),
    "a setting too many": ("ALTER ROLE dmg_owner SET jit TO off", "ALTER ROLE dmg_owner RESET jit", "dmg_owner"),
    "a membership is gone": ("REVOKE dmg_owner FROM dmg_app", "GRANT dmg_owner TO dmg_app WITH ADMIN OPTION", "dmg_app"),
    "a membership too many": ("GRANT dmg_owner TO dmg_reader", "REVOKE dmg_owner FROM dmg_reader", "dmg_reader"),
    "a membership without its option": (
        "REVOKE ADMIN OPTION FOR dmg_owner FROM dmg_app", "GRANT dmg_owner TO dmg_app WITH ADMIN OPTION", "dmg_app",
    ),
    "a membership that is inherited": (
        "GRANT dmg_reader TO dmg_app WITH INHERIT TRUE", "GRANT dmg_reader TO dmg_app WITH INHERIT FALSE", "dmg_app",
    ),
    "a parameter": (
        "REVOKE SET ON PARAMETER log_statement FROM dmg_app", "GRANT SET ON PARAMETER log_statement TO dmg_app", "dmg_app",
    ),
    "another name": ("ALTER ROLE dmg_reader RENAME TO dmg_other", "ALTER ROLE dmg_other RENAME TO dmg_reader", "dmg_reader"),
    "a membership by another role": (
        "REVOKE dmg_owner FROM dmg_guest GRANTED BY dmg_giver; GRANT dmg_owner TO dmg_guest",
        "REVOKE dmg_owner FROM dmg_guest; GRANT dmg_owner TO dmg_guest GRANTED BY dmg_giver", "dmg_guest",
    ),
    "a membership in a predefined role": (
        "REVOKE pg_read_all_data FROM dmg_guest", "GRANT pg_read_all_data TO dmg_guest", "dmg_guest",
    ),
    "a list in a different order": (
        "ALTER ROLE dmg_guest SET search_path TO \"$user\", 'b c'", "ALTER ROLE dmg_guest SET search_path TO 'b c', \"$user\"",
        "dmg_guest",
    ),
    "an empty setting": (
        "ALTER ROLE dmg_guest RESET app.empty", "ALTER ROLE dmg_guest SET app.empty TO ''", "dmg_guest",
    ),
    "a parameter too many": (
        "GRANT SET ON PARAMETER work_mem TO dmg_guest", "REVOKE SET ON PARAMETER work_mem FROM dmg_guest", "dmg_guest",
    ),
    "the superuser's setting": (
        "ALTER ROLE CURRENT_USER SET jit TO off", "ALTER ROLE CURRENT_USER RESET jit", "posthub",
    ),
    "the last hour of a role": (
        "ALTER ROLE \"dmg Ünicode;x\" VALID UNTIL '2030-06-01 12:00:00+01'",
        "ALTER ROLE \"dmg Ünicode;x\" VALID UNTIL '2030-06-01 12:00:00+02'", "dmg Ünicode;x",
    ),
    "connections of a role that has none": (
        'ALTER ROLE "dmg Ünicode;x" CONNECTION LIMIT -1', 'ALTER ROLE "dmg Ünicode;x" CONNECTION LIMIT 0', "dmg Ünicode;x",
    ),
    "a letter of a name": (
        'ALTER ROLE "dmg Ünicode;x" RENAME TO "dmg Unicode;x"', 'ALTER ROLE "dmg Unicode;x" RENAME TO "dmg Ünicode;x"',
        "dmg Ünicode;x",
    ),
    "a backslash of a comment": (
        r"COMMENT ON ROLE dmg_giver IS E'tab\there, \'quote\' and backslash'",
        r"COMMENT ON ROLE dmg_giver IS E'tab\there, \'quote\' and \\ backslash'", "dmg_giver",
    ),
    "a tab of a comment": (
        r"COMMENT ON ROLE dmg_giver IS E'tab here, \'quote\' and \\ backslash'",
        r"COMMENT ON ROLE dmg_giver IS E'tab\there, \'quote\' and \\ backslash'", "dmg_giver",
    ),
    "a zone of a setting": (
        "ALTER ROLE \"dmg Ünicode;x\" SET TimeZone TO 'UTC'", "ALTER ROLE \"dmg Ünicode;x\" SET TimeZone TO 'Europe/Prague'",
        "dmg Ünicode;x",
    ),
    "a list of no library": (
        "ALTER ROLE dmg_giver RESET session_preload_libraries", "ALTER ROLE dmg_giver SET session_preload_libraries TO ''", "dmg_giver",
    ),
    "an option of a predefined role": (
        "REVOKE ADMIN OPTION FOR pg_monitor FROM dmg_giver", "GRANT pg_monitor TO dmg_giver WITH ADMIN OPTION", "dmg_giver",
    ),
    "a grant option of a parameter": (
        "REVOKE GRANT OPTION FOR SET ON PARAMETER work_mem FROM dmg_giver", "GRANT SET ON PARAMETER work_mem TO dmg_giver WITH GRANT OPTION",
        "dmg_giver",
    ),
    "a parameter by another role": (
        "SET ROLE dmg_giver; REVOKE SET ON PARAMETER maintenance_work_mem FROM dmg_reader; RESET ROLE; GRANT SET ON PARAMETER maintenance_work_mem TO dmg_reader",
        "REVOKE SET ON PARAMETER maintenance_work_mem FROM dmg_reader; SET ROLE dmg_giver; GRANT SET ON PARAMETER maintenance_work_mem TO dmg_reader; RESET ROLE",
        "dmg_reader",
    ),
    "a membership that may be set no more": (
        "GRANT dmg_owner TO dmg_guest WITH SET FALSE GRANTED BY dmg_giver",
        "GRANT dmg_owner TO dmg_guest WITH SET TRUE GRANTED BY dmg_giver", "dmg_guest",
    ),
    "the superuser's comment": (
        "COMMENT ON ROLE posthub IS 'Eve'", "COMMENT ON ROLE posthub IS NULL", "posthub",
    ),
    "a role too many": ("CREATE ROLE dmg_intruder SUPERUSER", "DROP ROLE dmg_intruder", "dmg_intruder"),
}  # fmt: skip
OF_DATABASE = {
    "an owner": ("ALTER DATABASE {0} OWNER TO dmg_app", "ALTER DATABASE {0} OWNER TO dmg_owner"),
    "a comment is gone": (
        "COMMENT ON DATABASE {0} IS NULL", r"COMMENT ON DATABASE {0} IS E'production\n-- owner: Jana\nSET by ops'",
    ),
    "a line in the middle of the comment": (
        r"COMMENT ON DATABASE {0} IS E'production\n-- owner: Eve\nSET by ops'",
        r"COMMENT ON DATABASE {0} IS E'production\n-- owner: Jana\nSET by ops'",
    ),
    "the last line of the comment": (
        r"COMMENT ON DATABASE {0} IS E'production\n-- owner: Jana'",
        r"COMMENT ON DATABASE {0} IS E'production\n-- owner: Jana\nSET by ops'",
    ),
    "another setting": ("ALTER DATABASE {0} SET work_mem TO '8MB'", "ALTER DATABASE {0} SET work_mem TO '9MB'"),
    "a setting is gone": ("ALTER DATABASE {0} RESET work_mem", "ALTER DATABASE {0} SET work_mem TO '9MB'"),
    "a line of a setting": (
        r"ALTER DATABASE {0} SET app.note TO E'one\nthree'", r"ALTER DATABASE {0} SET app.note TO E'one\n-- two\nthree'",
    ),
    "a setting too many": ("ALTER DATABASE {0} SET jit TO off", "ALTER DATABASE {0} RESET jit"),
    "a setting of a role in it": (
        "ALTER ROLE dmg_app IN DATABASE {0} SET app.note TO 'yours'", "ALTER ROLE dmg_app IN DATABASE {0} SET app.note TO 'mine'",
    ),
    "no setting of a role in it": (
        "ALTER ROLE dmg_app IN DATABASE {0} RESET app.note", "ALTER ROLE dmg_app IN DATABASE {0} SET app.note TO 'mine'",
    ),
    "a connection limit": ("ALTER DATABASE {0} CONNECTION LIMIT 78", "ALTER DATABASE {0} CONNECTION LIMIT 77"),
    "no connection limit": ("ALTER DATABASE {0} CONNECTION LIMIT -1", "ALTER DATABASE {0} CONNECTION LIMIT 77"),
    "it is a template": ("ALTER DATABASE {0} IS_TEMPLATE true", "ALTER DATABASE {0} IS_TEMPLATE false"),
    "a grant is gone": ("REVOKE CONNECT ON DATABASE {0} FROM dmg_reader", "GRANT CONNECT ON DATABASE {0} TO dmg_reader"),
    "a grant too many": ("GRANT TEMPORARY ON DATABASE {0} TO dmg_reader", "REVOKE TEMPORARY ON DATABASE {0} FROM dmg_reader"),
    "a grant without its option": (
        "REVOKE GRANT OPTION FOR CREATE ON DATABASE {0} FROM dmg_app", "GRANT CREATE ON DATABASE {0} TO dmg_app WITH GRANT OPTION",
    ),
    "a grant by another role": (
        "SET ROLE dmg_giver; REVOKE CREATE ON DATABASE {0} FROM dmg_guest; RESET ROLE; GRANT CREATE ON DATABASE {0} TO dmg_guest",
        "REVOKE CREATE ON DATABASE {0} FROM dmg_guest; SET ROLE dmg_giver; GRANT CREATE ON DATABASE {0} TO dmg_guest; RESET ROLE",
    ),
    "a right of the owner": (
        "REVOKE TEMPORARY ON DATABASE {0} FROM dmg_owner", "GRANT TEMPORARY ON DATABASE {0} TO dmg_owner",
    ),
    "an empty setting": ("ALTER DATABASE {0} RESET app.empty", "ALTER DATABASE {0} SET app.empty TO ''"),
    "one name of a list as two": (
        "ALTER DATABASE {0} SET search_path TO 'a', 'b', 'c', \"D\"", "ALTER DATABASE {0} SET search_path TO 'a', 'b,c', \"D\"",
    ),
    "no connection at all": ("ALTER DATABASE {0} CONNECTION LIMIT 0", "ALTER DATABASE {0} CONNECTION LIMIT 77"),
    "a setting of a role in it too many": (
        "ALTER ROLE dmg_reader IN DATABASE {0} SET jit TO off", "ALTER ROLE dmg_reader IN DATABASE {0} RESET jit",
    ),
    "another zone": ("ALTER DATABASE {0} SET TimeZone TO 'UTC'", "ALTER DATABASE {0} SET TimeZone TO 'Europe/Prague'"),
    "another unit of a setting": (
        "ALTER DATABASE {0} SET statement_timeout TO '30min'", "ALTER DATABASE {0} SET statement_timeout TO '30s'",
    ),
    "an option of a grant to an odd role": (
        'REVOKE GRANT OPTION FOR TEMPORARY ON DATABASE {0} FROM "dmg Ünicode;x"',
        'GRANT TEMPORARY ON DATABASE {0} TO "dmg Ünicode;x" WITH GRANT OPTION',
    ),
    "a path of an odd role in it": (
        'ALTER ROLE "dmg Ünicode;x" IN DATABASE {0} SET search_path TO "x", y, public',
        'ALTER ROLE "dmg Ünicode;x" IN DATABASE {0} SET search_path TO "x y", public',
    ),
    "a comment of blanks": (
        "COMMENT ON DATABASE {0} IS '  '", r"COMMENT ON DATABASE {0} IS E'production\n-- owner: Jana\nSET by ops'",
    ),
    "a blank after the comment": (
        r"COMMENT ON DATABASE {0} IS E'production\n-- owner: Jana\nSET by ops '",
        r"COMMENT ON DATABASE {0} IS E'production\n-- owner: Jana\nSET by ops'",
    ),
    "everyone may connect": ("GRANT CONNECT ON DATABASE {0} TO PUBLIC", "REVOKE CONNECT ON DATABASE {0} FROM PUBLIC"),
}  # fmt: skip


@dataclass(frozen=True)
class Restored:
    place: Scratch
    archive: Path

    def do(self, statement: str) -> None:
        with psycopg.connect(self.place.maintenance.conninfo, autocommit=True) as connection:
            for each in statement.format(self.place.database.database).split("; "):
                connection.execute(each.encode())

    def of_roles(self) -> list[Difference]:
        return self.place.compare_globals()

    def of_database(self) -> list[Difference]:
        place = self.place
        return compare_dumps(place.manifest, place.wiring.programs, self.archive, place.database).differences


@pytest.fixture(scope="module")
def restored(postgres: Postgres, new_database: NewDatabase, back_up: BackUp) -> Iterator[Restored]:
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute(ROLES.encode())
    wiring, entry = back_up(new_database(DATABASE, "dmg"))
    with private_folder(None) as folder, scratch(wiring, entry.manifest, folder) as place:
        files, differences = download(wiring, entry, place.folder)
        assert place.create() is None
        differences += place.load_globals(files["globals"])
        differences += load_archive(wiring.programs, place.database, files["archive"], 2)
        statements = properties(wiring.programs, files["archive"], place.database.database)
        differences += carry_out(place.maintenance, "settings", statements)
        assert differences == []
        yield Restored(place, files["archive"])


def test_a_complete_restore_has_no_differences(restored: Restored) -> None:
    assert [*restored.of_roles(), *restored.of_database()] == []


@pytest.mark.parametrize("damage", OF_ROLES)
def test_damage_to_a_role_is_named(damage: str, restored: Restored) -> None:
    harm, cure, named = OF_ROLES[damage]
    restored.do(harm)
    try:
        found = restored.of_roles()
    finally:
        restored.do(cure)
    assert ("role", named) in [(each.kind, each.object) for each in found], found
    renamed = {"dmg_other", "dmg Unicode;x"}
    members = {"dmg_app", "dmg Ünicode;x"}
    assert {each.object for each in found} <= {named} | renamed | members, found


@pytest.mark.parametrize("damage", OF_DATABASE)
def test_damage_to_the_database_is_named(damage: str, restored: Restored) -> None:
    harm, cure = OF_DATABASE[damage]
    restored.do(harm)
    try:
        found = restored.of_database()
    finally:
        restored.do(cure)
    assert found, damage
    assert {each.object for each in found} <= {"database", "DATABASE database"}, found
