"""An archive that another pg_dump made is imported, verified and restored."""

import secrets
import subprocess
from pathlib import Path

import pytest

from stack.programs import postgres_bin
from stack.servers import Postgres
from tests.backup.conftest import ROWS, SCHEMA, NewDatabase
from tests.backup.restorekit import Command, value


@pytest.fixture
def command(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    return Command(environ, monkeypatch, capsys)


def dumped(server: Postgres, database: str, file: Path, *options: str) -> Path:
    program = str(postgres_bin() / "pg_dump")
    subprocess.run([program, *options, f"--file={file}", server.url_for(database)], check=True)
    return file


def test_it_is_a_backup_like_others(
    command: Command, postgres: Postgres, new_database: NewDatabase, tmp_path: Path
) -> None:
    owner = f"Old Owner {secrets.token_hex(3)}"
    name = new_database(
        f'{SCHEMA} CREATE ROLE "{owner}"; ALTER TABLE "Mixed Case" OWNER TO "{owner}"; GRANT SELECT ON events TO "{owner}";'
        f'CREATE POLICY p ON empty TO "{owner}" USING (true)',
        "foreign",
    )
    file = dumped(postgres, name, tmp_path / "old.dump", "-Fc")
    made = command.passed("import", str(file), "--as", "old-shop")
    assert made["rows"] == ROWS
    report = command("verify", "latest", "-d", "old-shop", "--json").json
    assert report["differences"] == []
    assert "imported from a file" in " ".join(report["notes"])
    there = {"BACKUP_RESTORE_URL": postgres.url_for(name)}
    into = f"old_{name}"
    done = command.passed("restore", "latest", "-d", "old-shop", "--into", into, **there)
    assert done["differences"] == []
    assert value(postgres, into, "SELECT count(*) FROM posts") == 2000
    assert value(postgres, into, "SELECT tableowner FROM pg_tables WHERE tablename = 'Mixed Case'") == owner


def test_a_damaged_file_and_other_formats_are_refused(
    command: Command, postgres: Postgres, database: str, tmp_path: Path
) -> None:
    sql = dumped(postgres, database, tmp_path / "old.sql")
    done = command("import", str(sql), "--as", "old")
    done.fails(2, "not an archive of pg_dump in the custom format")
    whole = dumped(postgres, database, tmp_path / "old.dump", "-Fc")
    half = tmp_path / "half.dump"
    half.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    done = command("import", str(half), "--as", "old")
    done.fails(1, "pg_restore ended with")
    done = command("import", str(whole), "--as", database)
    done.fails(2, "is a configured database")
    done = command("import", str(whole), "--as", "../x")
    done.fails(2, "not a valid folder name")
    assert command("list", "--json").json == []
