"""Restored content is foreign code: it must not reach our keys, our files or the network."""

import ctypes
import hashlib
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import zstandard

from backup import landlock
from backup.confinement import Confinement, strength
from backup.errors import DumpError, VerificationError
from backup.load.throwaway import find_files
from backup.pipeline import ChildSource
from backup.pipeline.child import run_child
from backup.programs import PASSED, Programs, clean_environment
from stack.paths import ROOT
from stack.programs import postgres_bin
from stack.servers import Postgres
from tests.backup.conftest import NewDatabase
from tests.backup.documents import redigested
from tests.backup.restorekit import Command

SECRETS = {
    f"{name}{suffix}": f"canary-{number}"
    for number, name in enumerate(
        ("STRIPE", "SENTRY", "GEMINI", "MY", "GITHUB", "SMTP", "DJANGO_SECRET", "POSTGRES", "APP", "VAULT")
    )
    for suffix in ("_KEY", "_PASSWORD")
}
needs_landlock = pytest.mark.skipif(
    not landlock.version(), reason="this kernel has no Landlock: use 5.13 or newer with lsm=…,landlock"
)


@pytest.fixture
def command(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    return Command(environ, monkeypatch, capsys)


@pytest.fixture
def listener() -> Iterator[tuple[int, list[str]]]:
    """A TCP port of this machine, and the connections to it."""
    came: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                came.append("someone")
                connection.close()

        threading.Thread(target=accept, daemon=True).start()
        yield server.getsockname()[1], came
        server.shutdown(socket.SHUT_RDWR)


def shell(script: str, confinement: Confinement) -> tuple[int, str]:
    """Run a script within limits; returns its exit code and everything that it printed."""
    ended = run_child(
        ["/bin/bash", "-c", script], env=clean_environment(), confinement=confinement, output=True
    )
    return ended.status, "\n".join(ended.errors)


def test_children_inherit_only_what_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PGPASSWORD", "canary")
    monkeypatch.setenv("LC_TIME", "C")
    ours = {"PGTZ", "PGOPTIONS", "LC_ALL", "LC_TIME", "TZ", "PGCONNECT_TIMEOUT"}
    given = clean_environment()
    assert set(given) <= PASSED | ours | {name for name in given if name.startswith("LC_")}
    assert "canary" not in "".join(given.values())


@needs_landlock
def test_what_a_confined_program_may_do(tmp_path: Path, listener: tuple[int, list[str]]) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    (outside / "key").write_text("canary")
    port, came = listener
    mine = Confinement(inside)
    assert shell(
        f"echo text >{inside}/file && cat {inside}/file && mv {inside}/file {inside}/moved", mine
    ) == (0, "text")
    forbidden = [
        f"cat {outside}/key",
        f"ls {outside}",
        f"echo x >{outside}/new",
        f"ln {outside}/key {inside}/key",
        f"rm {outside}/key",
        f"cat /proc/{os.getpid()}/environ",
        f"kill -0 {os.getpid()}",
        f"exec 3<>/dev/tcp/127.0.0.1/{port}",
        f"cp /bin/true {inside}/program && {inside}/program",
    ]
    for script in forbidden:
        status, printed = shell(script, mine)
        assert status != 0, script
        assert any(word in printed for word in ("denied", "not permitted", "cross-device")), (script, printed)
    assert (outside / "key").read_text() == "canary"
    assert sorted(file.name for file in outside.iterdir()) == ["key"]
    assert came == []
    status, printed = shell(f"exec 3<>/dev/tcp/127.0.0.1/{port}", mine.connecting({"host": "127.0.0.1"}))
    assert (status, printed) == (0, "")
    assert shell("trap '' PIPE; true; kill -l PIPE; kill -PIPE $$; echo alive", mine)[1].endswith("alive")
    assert shell("kill -PIPE $$; echo alive", mine) == (-13, "")


def test_a_missing_program(tmp_path: Path) -> None:
    ended = run_child([str(tmp_path / "none")], env={}, confinement=Confinement(tmp_path))
    assert ended.status == landlock.NOT_CONFINED
    assert "No such file" in "".join(ended.errors)


HOSTILE = """
CREATE FUNCTION {owner}.deed() RETURNS boolean LANGUAGE plpgsql VOLATILE AS $evil$
DECLARE step text;
BEGIN
  FOREACH step IN ARRAY ARRAY[
    'COPY (SELECT 1) TO PROGRAM ''cat {key} >>{out}/key''',
    'COPY (SELECT 1) TO PROGRAM ''env >>{out}/environment''',
    'COPY (SELECT 1) TO PROGRAM ''cat /proc/$PPID/environ /proc/{pid}/environ >>{out}/environ''',
    'COPY (SELECT 1) TO PROGRAM ''exec 3<>/dev/tcp/127.0.0.1/{port}''',
    'COPY (SELECT 1) TO PROGRAM ''bash -c "exec 3<>/dev/tcp/127.0.0.1/{port}"''',
    'COPY (SELECT pg_read_file(''{key}'')) TO ''{out}/read''',
    'COPY (SELECT 1) TO ''{out}/written''',
    'COPY (SELECT 1) TO PROGRAM ''for each in ../archive ../../archive; do test ! -e $each || {tamper} $each; done'''
  ] LOOP
    BEGIN EXECUTE step; EXCEPTION WHEN OTHERS THEN NULL; END;
  END LOOP;
  RETURN true;
END $evil$;
-- Declared IMMUTABLE, as an index requires, although it calls the function that has side effects.
CREATE FUNCTION {owner}.evil(text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $evil$
BEGIN RETURN {owner}.deed(); END $evil$;
CREATE DOMAIN {owner}.sly AS text CHECK ({owner}.evil(VALUE));
CREATE TABLE {owner}.t (
  id int CHECK ({owner}.evil(id::text)), word {owner}.sly,
  stored boolean GENERATED ALWAYS AS ({owner}.evil(id::text)) STORED
);
CREATE INDEX ON {owner}.t ({owner}.evil(id::text));
INSERT INTO {owner}.t (id, word) VALUES (1, 'a');
"""


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A world-writable folder in which forbidden effects would be visible."""
    folder = tmp_path / "out"
    folder.mkdir()
    for each in (folder, *list(folder.parents)[:3]):
        each.chmod(0o777)
    return folder


@needs_landlock
@pytest.mark.parametrize("confined", [True, False])
def test_code_in_a_database_cannot_touch_our_files(
    confined: bool,
    command: Command,
    new_database: NewDatabase,
    postgres: Postgres,
    tmp_path: Path,
    out: Path,
    listener: tuple[int, list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Code of an ordinary owner, run by the throwaway server's superuser while rows and indexes are restored.

    Without Landlock the same code reads, writes and runs anything, which proves that the test really runs it.
    """
    key = tmp_path / "identity.txt"
    key.write_text("canary")
    name = new_database("SELECT 1", "hostile")
    script = HOSTILE.format(
        owner=name,
        key=key,
        out=out,
        port=listener[0],
        pid=os.getpid(),
        tamper="truncate -s 0" if confined else "ls",
    )
    with psycopg.connect(postgres.url_for(name), autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {name} LOGIN")
        connection.execute(f"CREATE SCHEMA {name} AUTHORIZATION {name}")
        connection.execute(f"SET SESSION AUTHORIZATION {name}")
        connection.execute(script)
    assert list(out.iterdir()) == []
    for variable, value in SECRETS.items():
        monkeypatch.setenv(variable, value)
    settings = {"DATABASE_URL": postgres.url_for(name), "BACKUP_AGE_IDENTITY_FILE": ""}
    made = command.passed("run", **settings)
    if not confined:
        monkeypatch.setattr(landlock, "version", lambda: 0)
    assert command.passed("verify", made["id"], **settings)["differences"] == []
    touched = {file.name: file.read_text() for file in out.iterdir()}
    if confined:
        assert (touched, listener[1]) == ({}, [])
    else:
        assert {"key", "environment", "environ", "read", "written"} <= set(touched)
        assert touched["key"].startswith("canary")
        assert listener[1]
    # Even then our variables are not passed on.
    assert "canary-" not in touched.get("environment", "")


@needs_landlock
def test_the_users_check_command_is_confined_too(
    command: Command, tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "key").write_text("canary")
    (tmp_path / "checks").mkdir()
    script = tmp_path / "checks" / "check.sh"
    script.write_text(
        f'#!/bin/sh\ncat {tmp_path}/key 2>&1; env; echo x >{out}/file; psql "$DATABASE_URL" -c "SELECT 1" >/dev/null || exit 9\nexit 3\n'
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{command.environ['BACKUP_POSTGRES_BIN']}:{os.environ['PATH']}")
    monkeypatch.setenv("STRIPE_KEY", "canary")
    made = command.passed("run")
    [difference] = command("verify", made["id"], "--json", BACKUP_VERIFY_COMMAND=str(script)).json[
        "differences"
    ]
    assert "canary" not in difference["found"]
    assert list(out.iterdir()) == []


def test_the_sidecar_hides_its_memory(environ: dict[str, str]) -> None:
    """No process of the same user reads its environment or attaches to it, and no core dump contains its keys."""
    ask = (
        "import ctypes, sidecar.cli\n"
        "sidecar.cli.main = lambda *_, **__: print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))\n"
        "import backup.cli; backup.cli.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", ask],
        env={**os.environ, **environ},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "0\n", done


# A seccomp filter under which one of Landlock's system calls does not exist.
WITHOUT = """
import ctypes, os, struct, sys
steps = [(0x20, 0, 0, 0), (0x15, 0, 1, NUMBER), (0x06, 0, 0, 0x00050026), (0x06, 0, 0, 0x7fff0000)]
program = b"".join(struct.pack("HBBI", *step) for step in steps)
buffer = ctypes.create_string_buffer(program)
class Filter(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("steps", ctypes.c_void_p)]
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, ctypes.byref(Filter(len(steps), ctypes.addressof(buffer)))) == 0
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""
WITHOUT_LANDLOCK = WITHOUT.replace("NUMBER", str(landlock.__dict__["_CREATE_RULESET"]))
REFUSING_LANDLOCK = WITHOUT.replace("NUMBER", str(landlock.__dict__["_RESTRICT_SELF"]))


@needs_landlock
def test_nothing_is_proven_where_landlock_is_refused(environ: dict[str, str], command: Command) -> None:
    """The limits exist but cannot be set: no program of a verification runs, and no backup is reported as damaged."""
    made = command.passed("run")
    done = subprocess.run(
        [sys.executable, "-c", REFUSING_LANDLOCK, "-m", "backup", "verify", "--json"],
        env={**os.environ, **environ},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "was not run: error: it cannot be confined" in done.stderr
    assert command.passed("show", made["id"])["state"] == "unverified"
    refusing = [sys.executable, "-c", REFUSING_LANDLOCK, "-c"]
    ask = "from tests.backup.test_confinement import refused; refused()"
    done = subprocess.run(
        [*refusing, ask], env=dict(os.environ), cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stdout == "not run, killed\n", done


def refused() -> None:
    """Print the outcome of a confined program and of a confined source if Landlock is refused."""
    mine = Confinement(Path("/tmp"))
    try:
        run_child(["/bin/true"], env={}, confinement=mine)
    except VerificationError as error:
        print("not run" if "was not run" in error.message else error.message, end=", ")
    try:
        with ChildSource(["/bin/true"], env={}, hint="", confinement=mine) as source:
            source.read()
    except DumpError as error:
        print("killed" if error.killed else error.message)


def test_without_landlock_programs_run_and_this_is_reported(environ: dict[str, str]) -> None:
    def python(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", WITHOUT_LANDLOCK, *arguments],
            env={**os.environ, **environ},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    python("-m", "backup", "run")
    assert '"ok": true' in python("-m", "backup", "verify", "--json")
    assert "this kernel does not restrict: files, TCP, signals" in python("-m", "backup", "doctor")
    show = (
        "from prometheus_client import generate_latest\n"
        "from backup.service import status_page; from backup.service.metrics import registry\n"
        "from backup.service.state import new_state; from backup.settings import BackupSettings\n"
        "from backup.wiring import wire\n"
        "state = new_state(wire(BackupSettings.load())); state.refresh()\n"
        "print(generate_latest(registry(state)).decode(), status_page.render(state))"
    )
    shown = python("-c", show)
    assert "\nbackup_verify_confined 0.0\n" in shown
    assert "restored content is NOT confined" in shown


def test_how_far_a_kernel_confines(monkeypatch: pytest.MonkeyPatch) -> None:
    for version, lacking in (
        (0, "files, TCP, signals"),
        (1, "TCP, signals"),
        (4, "signals"),
        (6, ""),
        (9, ""),
    ):
        monkeypatch.setattr(landlock, "version", lambda known=version: known)
        assert ", ".join(strength().lacking) == lacking
        assert strength().confined is (version > 0)


def test_the_constants_are_the_kernels() -> None:
    """The kernel's headers, if installed, have the same numbers."""
    header = Path("/usr/include/linux/landlock.h")
    if not header.exists():
        pytest.skip("no kernel headers: apt-get install linux-libc-dev")
    text = header.read_text()
    for name in ("EXECUTE", "WRITE_FILE", "READ_FILE", "READ_DIR", "REFER", "TRUNCATE"):
        number = next(
            (
                line.rsplit("<<", 1)[1].strip(" )\n")
                for line in text.splitlines()
                if f"LANDLOCK_ACCESS_FS_{name}\t" in line
            ),
            None,
        )
        if number is not None:
            assert getattr(landlock, f"_{name}") == 1 << int(number.rstrip("UL")), name
    assert ctypes.sizeof(landlock._PathBeneath) == 12


def test_commands_of_psql_in_a_globals_dump_are_not_run(command: Command, tmp_path: Path, out: Path) -> None:
    """They need neither a server nor a superuser, only readable files."""
    made = command.passed("run")
    folder = tmp_path / "store" / made["database"] / made["id"]
    stored = folder / "globals.sql.zst"
    forged = f"\\! touch {out}/touched\nCREATE ROLE fresh;\n\\o {out}/written\nSELECT 1;\n".encode()
    data = zstandard.ZstdCompressor().compress(forged)
    stored.write_bytes(data)
    manifest = json.loads((folder / "manifest.json").read_text())
    for each in manifest["objects"]:
        if each["role"] == "globals":
            each.update(
                raw_bytes=len(forged), stored_bytes=len(data), sha256=hashlib.sha256(data).hexdigest()
            )
    (folder / "manifest.json").write_bytes(redigested(manifest))
    done = command("verify", made["id"], "--json")
    assert done.status == 1, done
    assert "globals" in {each["kind"] for each in done.json["differences"]}
    assert list(out.iterdir()) == []


def test_built_in_folders_of_programs_may_be_read_too(tmp_path: Path) -> None:
    """The folders of files and modules are set when programs are built, and may be anywhere."""
    programs = tmp_path / "cellar" / "bin"
    programs.mkdir(parents=True)
    stated = {"initdb": "share_path=/srv/share/postgresql", "pg_config": "/srv/lib/postgresql"}
    for name, prints in stated.items():
        (programs / name).write_text(f"#!/bin/sh\necho {prints}\n")
        (programs / name).chmod(0o755)
    words = Confinement(tmp_path).command([str(programs / "initdb")])
    if landlock.version():
        assert {"read=/srv/share/postgresql", "read=/srv/lib/postgresql"} <= set(words)


@needs_landlock
def test_programs_whose_files_are_hidden(tmp_path: Path) -> None:
    """The doctor says beforehand that they cannot verify anything."""
    find_files(Programs(postgres_bin()), None)
    files, elsewhere = tmp_path / "pg" / "share", tmp_path / "elsewhere"
    program = tmp_path / "pg" / "bin" / "initdb"
    for folder in (files, elsewhere, program.parent):
        folder.mkdir(parents=True)
    program.write_text(
        '#!/bin/sh\ncat "${0%/bin/initdb}/share/postgres.bki" && echo "not a directory: $2" >&2\nexit 1\n'
    )
    program.chmod(0o755)
    (files / "postgres.bki").write_text("x")
    find_files(Programs(program.parent), None)
    (files / "postgres.bki").rename(elsewhere / "postgres.bki")
    (files / "postgres.bki").symlink_to(elsewhere / "postgres.bki")
    with pytest.raises(VerificationError, match=r"postgres\.bki.*Permission denied"):
        find_files(Programs(program.parent), None)
