"""Base backups of a whole server through run, catalogue and store; what the server decides, on every supported version."""

import dataclasses
import io
import secrets
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest

from backup.catalogue.document import encode
from backup.errors import DumpError, PreflightError
from backup.load.fetch import fetch
from backup.physical import archive as names
from backup.physical import base, lsn
from backup.physical.due import RETRY
from backup.run import run
from backup.service.jobs import Jobs
from backup.service.state import new_state
from backup.settings import BackupSettings
from backup.store import LocalStore, ObjectInfo
from backup.targets import ServerTarget
from backup.verify import verify
from backup.wiring import Wiring, wire
from sidecar import OpsError
from stack.programs import SUPPORTED
from stack.servers import Postgres
from tests.backup.pitrkit import Archiver, settings_of
from tests.backup.restorekit import Command


@pytest.fixture
def environ(server: Postgres, store_url: str, tmp_path: Path) -> dict[str, str]:
    return settings_of(server, store_url, tmp_path)


@pytest.fixture
def target(wiring: Wiring) -> ServerTarget:
    return wiring.server("main")


@pytest.mark.usefixtures("archiver")
def test_a_base_backup_is_a_backup_like_any_other(
    environ: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    server: Postgres,
) -> None:
    command = Command(environ, monkeypatch, capsys)
    made = command.passed("run", "-d", "main")
    assert made["kind"] == "server"
    assert made["encrypted"] is True
    [listed] = command.passed("list", "-d", "main")
    assert (listed["id"], listed["state"]) == (made["id"], "unverified")
    shown = command.passed("show", made["id"])
    physical = shown["manifest"]["physical"]
    assert physical["start"] < physical["end"]
    assert physical["settings"]["max_connections"] == "100"
    assert "posthub" in {each["name"] for each in physical["databases"]}
    assert shown["manifest"]["server"]["version_number"] // 10000 == int(server.folder.name[8:10])
    assert [each["role"] for each in shown["manifest"]["objects"]] == ["base", "base-manifest"]
    assert [each["name"] for each in shown["manifest"]["objects"]] == [
        "base.tar.zst.age",
        "backup_manifest.zst.age",
    ]


@pytest.mark.usefixtures("archiver")
def test_tablespaces_are_separate_objects(
    wiring: Wiring, target: ServerTarget, server: Postgres, tmp_path: Path
) -> None:
    place, name = tmp_path / "space", f"space_{secrets.token_hex(3)}"
    place.mkdir()
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(f"CREATE TABLESPACE {name} LOCATION '{place}'")
        connection.execute(f"CREATE TABLE in_{name} TABLESPACE {name} AS SELECT 1 AS n")
    try:
        manifest = run(wiring, target)
    finally:
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute(f"DROP TABLE in_{name}")
            connection.execute(f"DROP TABLESPACE {name}")
    assert manifest.physical is not None
    [space] = manifest.physical.tablespaces
    assert space.location == str(place)
    [stored] = [each for each in manifest.objects if each.role == "tablespace"]
    assert stored.name == f"{space.oid}.tar.zst.age"
    unpacked = tmp_path / "unpacked"
    fetch(wiring.store, f"main/{manifest.id}/{stored.name}", stored, unpacked, wiring.identities)
    with tarfile.open(fileobj=io.BytesIO(unpacked.read_bytes())) as archive:
        assert any(member.isreg() for member in archive)


def test_without_the_log_there_is_no_backup(
    wiring: Wiring, target: ServerTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base.await_log, "__defaults__", (0.5,))
    with pytest.raises(DumpError, match="the base backup needs the WAL up to"):
        run(wiring, target)
    history = wiring.reader().read(wiring.clock(), ["main"]).history("main")
    assert history.backups == ()
    assert [attempt.outcome for attempt in history.attempts] == ["failure"]
    assert not [info.key for info in wiring.store.walk("main/") if "/attempts/" not in info.key]


@pytest.mark.parametrize("server", [SUPPORTED[-1]], indirect=True, ids=["newest"])
def test_a_hole_in_the_log_is_waited_for(wiring: Wiring, target: ServerTarget, archiver: Archiver) -> None:
    manifest = run(wiring, target)
    physical = manifest.physical
    assert physical is not None
    archiver.wait_for(physical.end)
    name = lsn.segment_name(1, physical.start // physical.segment_size, physical.segment_size)
    [hole, *_] = [info for info in wiring.store.walk(archiver.archive.prefix) if name in info.key]
    wiring.store.delete([hole.key])
    with pytest.raises(DumpError, match="the base backup needs the WAL"):
        base.await_log(wiring.store, archiver.archive, physical, lambda: None, seconds=0)


@pytest.mark.parametrize("server", [SUPPORTED[-1]], indirect=True, ids=["newest"])
@pytest.mark.usefixtures("archiver")
def test_after_a_gap_the_service_takes_a_base_backup_by_itself(
    environ: dict[str, str], target: ServerTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    wiring = wire(BackupSettings.load(environ | {"BACKUP_VERIFY_AFTER_BACKUP": "false"}))
    state = new_state(wiring)
    jobs = Jobs(state)
    first = run(wiring, target)
    assert first.physical is not None
    state.refresh()
    jobs.renew_bases()
    assert [entry.id for entry in state.history("main").backups] == [first.id]
    system = first.server.system_identifier
    archive = names.Archive("main", system, first.physical.segment_size, wiring.keys)
    # It ends before the server's current position; only the first base backup precedes its start.
    start, end = first.physical.start + 1, first.physical.start + 2
    gap = names.Gap(
        server="main",
        system_identifier=system,
        timeline=1,
        start=start,
        end=end,
        noticed=wiring.clock(),
        reason="the server no longer has it",
    )
    wiring.store.put(archive.gap_key(1, start, end), encode(gap, wiring.keys))
    listed: list[str] = []
    walk = LocalStore.walk

    def noted(store: LocalStore, prefix: str = "") -> Iterator[ObjectInfo]:
        listed.append(prefix)
        return walk(store, prefix)

    with monkeypatch.context() as patched:
        patched.setattr(LocalStore, "walk", noted)
        patched.setattr(base, "_databases", lambda _: 1 / 0)
        jobs.renew_bases()
        jobs.renew_bases()
    # The WAL next to them, of a month, is not listed each minute.
    assert {prefix for prefix in listed if prefix.startswith(".wal/")} == {archive.gaps_prefix("00000001")}
    failed = state.history("main")
    assert [entry.id for entry in failed.backups] == [first.id]
    assert [attempt.outcome for attempt in failed.attempts] == ["success", "failure"]
    later = dataclasses.replace(wiring, clock=lambda: datetime.now(UTC) + RETRY)
    state.wiring = later
    monkeypatch.setattr("backup.run.check_clock", lambda *_: None)
    Jobs(state).renew_bases()
    assert [entry.id for entry in state.history("main").backups][:1] == [first.id]
    assert len(state.history("main").backups) == 2
    Jobs(state).renew_bases()
    assert len(state.history("main").backups) == 2


@pytest.mark.parametrize("server", [SUPPORTED[-1]], indirect=True, ids=["newest"])
@pytest.mark.usefixtures("archiver")
def test_a_database_that_is_created_meanwhile_ends_the_backup(
    wiring: Wiring, target: ServerTarget, server: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Copied file by file, it would come back with rows that it never had."""
    name, kept = f"copied_{secrets.token_hex(3)}", base._store

    def store(*arguments: object) -> object:
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {name}")
            connection.execute(f"CREATE DATABASE {name} STRATEGY file_copy")
        return kept(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(base, "_store", store)
    try:
        with pytest.raises(DumpError, match="a database was created or moved while the base backup ran"):
            run(wiring, target)
    finally:
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {name}")


def _drop(server: Postgres, name: str) -> None:
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name}")


@pytest.mark.parametrize("server", [SUPPORTED[-1]], indirect=True, ids=["newest"])
@pytest.mark.usefixtures("archiver")
def test_a_copied_database_that_is_gone_again_is_found_by_the_proof(
    wiring: Wiring, target: ServerTarget, server: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the end of the base backup, nothing remains of it but records in the log."""
    name, kept = f"copied_{secrets.token_hex(3)}", base._store

    def store(*arguments: object) -> object:
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} STRATEGY file_copy")
        # To drop it, the server waits for all of its processes: also for the one that sends the base backup, which must go on.
        with ThreadPoolExecutor(1) as pool:
            dropped = pool.submit(_drop, server, name)
            stored = kept(*arguments)  # type: ignore[arg-type]
            dropped.result(60)
        return stored

    monkeypatch.setattr(base, "_store", store)
    taken = run(wiring, target)
    entry = wiring.reader().read(wiring.clock(), ["main"]).history("main").find(taken.id)
    assert entry is not None
    report = verify(wiring, entry)
    assert not report.ok
    assert any("CREATE_FILE_COPY" in each.found for each in report.differences), report


@pytest.mark.parametrize("server", [SUPPORTED[-1]], indirect=True, ids=["newest"])
def test_a_base_backup_never_goes_to_the_spool(
    environ: dict[str, str], tmp_path: Path, server: Postgres
) -> None:
    """Without the log of its server it is worthless."""
    assert server.running
    wiring = wire(
        BackupSettings.load(
            {
                **environ,
                "BACKUP_STORE_URL": f"file://{tmp_path}/gone",
                "BACKUP_SPOOL_DIR": str(tmp_path / "spool"),
            }
        )
    )
    with pytest.raises(OpsError, match="does not exist"):
        run(wiring, wiring.server("main"), strict=False)
    assert not (tmp_path / "spool").exists()


@pytest.mark.parametrize("server", [SUPPORTED[-1]], indirect=True, ids=["newest"])
@pytest.mark.usefixtures("archiver")
def test_the_folder_of_another_cluster_is_refused(
    wiring: Wiring, target: ServerTarget, environ: dict[str, str], tmp_path: Path, server: Postgres
) -> None:
    run(wiring, target)
    with Postgres(tmp_path / "other", programs=server.programs) as other:
        foreign = wire(BackupSettings.load({**environ, "BACKUP_SERVERS": f"main={other.url}"}))
        with pytest.raises(PreflightError, match="belongs to another server"):
            run(foreign, foreign.server("main"))
