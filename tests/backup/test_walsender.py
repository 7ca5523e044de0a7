"""The replication protocol against real servers of every supported version."""

import io
import json
import secrets
import tarfile
from collections.abc import Callable, Iterator

import psycopg
import pytest

from backup.cancellation import StoppedError
from backup.errors import PreflightError, ReplicationError
from backup.physical import lsn
from backup.physical.walsender import Alive, TimelineEnd, Wal, WalSender, WalStream
from backup.postgres.dsn import Address, parse
from stack.programs import SUPPORTED
from stack.servers import Postgres
from stack.wait import wait_for
from tests.backup.walkit import unpack, write


@pytest.fixture
def address(server: Postgres) -> Address:
    return parse(server.url)


@pytest.fixture
def slot(address: Address) -> Iterator[str]:
    """A slot without a reader."""
    name = f"test_{secrets.token_hex(4)}"
    with WalSender.connect(address) as sender:
        sender.create_slot(name)
    yield name
    with WalSender.connect(address) as sender:
        sender.drop_slot(name)


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait in a tight loop, because the conditions here wait themselves or return at once."""
    wait_for(condition, timeout=150, what=what, hint="look at the server's log", interval=0.001)


def received(stream: WalStream, start: int, end: int) -> bytes:
    """Read the bytes between two positions, which arrive without a hole."""
    data = bytearray()

    def complete() -> bool:
        message = stream.read(0.2)
        if isinstance(message, Wal):
            assert message.start == start + len(data)
            assert message.end <= message.latest
            data.extend(message.data)
        return start + len(data) >= end

    until(complete, "the WAL arrives")
    return bytes(data)


def test_the_server_says_who_it_is(server: Postgres, address: Address) -> None:
    with WalSender.connect(address) as sender, psycopg.connect(server.url) as connection:
        system = sender.identify()
        row = connection.execute(
            "SELECT system_identifier::text, current_setting('server_version_num')::int FROM pg_control_system()"
        ).fetchone()
        assert row == (system.identifier, sender.version)
        assert system.timeline == 1
        assert sender.segment_size() == 16 << 20
        assert sender.show("max_slot_wal_keep_size") == "1GB"
        assert sender.query("SELECT NULL, 'ä', 1") == [(None, "ä", "1")]


def test_the_connection_does_not_keep_the_database_from_being_renamed(
    server: Postgres, address: Address
) -> None:
    name = f"shop_{secrets.token_hex(3)}"
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        with WalSender.connect(address.named(name)) as sender:
            sender.identify()
            connection.execute(f"ALTER DATABASE {name} RENAME TO {name}_old")
        connection.execute(f"DROP DATABASE {name}_old")


def test_the_stream_is_what_the_server_writes(server: Postgres, address: Address, slot: str) -> None:
    with WalSender.connect(address) as sender:
        position = sender.read_slot(slot)
        assert position is not None
        assert position.position is not None
        start = lsn.segment_start(position.position, 16 << 20)
        stream = sender.stream(start, 1, slot=slot)
        end = write(server, 100)
        data = received(stream, start, end)
        # The slot moves to what was confirmed as stored.
        stream.confirm(end, end)
        with psycopg.connect(server.url, autocommit=True) as connection:
            moved = "SELECT restart_lsn::text, active FROM pg_replication_slots WHERE slot_name = %s"
            until(
                lambda: connection.execute(moved, [slot]).fetchone() == (lsn.text(end), True),
                "the slot moves",
            )
    name = lsn.segment_name(1, lsn.segment_of(start, 16 << 20), 16 << 20)
    segment = (server.data / "pg_wal" / name).read_bytes()
    assert data[: 16 << 20] == segment[: len(data)]


def test_a_sign_of_life_is_answered(server: Postgres, address: Address) -> None:
    with WalSender.connect(address) as sender:
        end = write(server)
        stream = sender.stream(lsn.segment_start(end, 16 << 20), 1)
        stream.confirm(0, 0, answer=True)
        until(lambda: isinstance(stream.read(0.2), Alive), "a sign of life")


def test_a_slot_that_is_in_use_is_refused(address: Address, slot: str) -> None:
    with WalSender.connect(address) as first, WalSender.connect(address) as second:
        start = lsn.segment_start(first.identify().position, 16 << 20)
        first.stream(start, 1, slot=slot)
        with pytest.raises(ReplicationError, match="is active for PID") as caught:
            second.stream(start, 1, slot=slot)
        assert caught.value.sqlstate == "55006"


def test_a_slot_is_free_once_its_reader_is_silent_for_too_long(address: Address, slot: str) -> None:
    with WalSender.connect(address, timeout_seconds=1) as silent, WalSender.connect(address) as second:
        start = lsn.segment_start(silent.identify().position, 16 << 20)
        silent.stream(start, 1, slot=slot)  # and never reads or reports

        def free() -> bool:
            rows = second.query(f"SELECT active FROM pg_replication_slots WHERE slot_name = '{slot}'")
            return rows == [("f",)]

        until(free, "the slot is free")


def test_wal_that_the_server_no_longer_has_is_refused(server: Postgres, address: Address) -> None:
    with psycopg.connect(server.url, autocommit=True) as connection:
        for _ in range(3):
            connection.execute("SELECT pg_switch_wal()")
            write(server)
        connection.execute("CHECKPOINT")
        connection.execute("CHECKPOINT")
    with WalSender.connect(address) as sender:
        with pytest.raises(ReplicationError, match="has already been removed") as caught:
            sender.stream(16 << 20, 1).read(30)
        assert caught.value.sqlstate == "58P01"


def test_commands_continue_after_a_refused_one(address: Address) -> None:
    with WalSender.connect(address) as sender:
        with pytest.raises(ReplicationError) as caught:
            sender.drop_slot("nobody")
        assert caught.value.sqlstate == "42704"
        assert sender.read_slot("nobody") is None
        with pytest.raises(ReplicationError) as missing:
            sender.history(77)
        assert missing.value.sqlstate == "58P01"
        assert sender.query("SELECT 1") == [("1",)]


@pytest.mark.parametrize("server", [SUPPORTED[-1]], indirect=True, ids=["newest"])
def test_a_lost_connection_is_an_error(server: Postgres, address: Address) -> None:
    with WalSender.connect(address) as sender:
        pid = sender.query("SELECT pg_backend_pid()")[0][0]
        stream = sender.stream(lsn.segment_start(sender.identify().position, 16 << 20), 1)
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute("SELECT pg_terminate_backend(%s::int)", [pid])
        with pytest.raises(ReplicationError):
            until(lambda: isinstance(stream.read(0.2), TimelineEnd), "the end")


@pytest.mark.parametrize("server", [SUPPORTED[-1]], indirect=True, ids=["newest"])
def test_a_server_that_is_not_there_is_named(server: Postgres) -> None:
    with pytest.raises(PreflightError, match="for replication"):
        WalSender.connect(parse(f"postgresql://u:secret@127.0.0.1:{server.port}/posthub"))
    with pytest.raises(PreflightError, match=r"127\.0\.0\.1:9") as caught:
        WalSender.connect(parse("postgresql://u:secret@127.0.0.1:9/posthub"))
    assert "secret" not in caught.value.message


def test_a_base_backup_is_a_server(server: Postgres, address: Address) -> None:
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("CHECKPOINT")
    found: dict[str, bytes] = {}
    with WalSender.connect(address) as sender:
        backup = sender.base_backup("a 'test'", fast=True)
        for archive in backup.archives():
            *pieces, last = iter(archive.read, b"")
            # What arrives 32 KiB at a time is handed on by the megabyte.
            assert all(1 << 20 <= len(piece) < 2 << 20 for piece in pieces)
            found[archive.name] = b"".join((*pieces, last))
        assert backup.end is not None
        assert backup.start < backup.end
        assert (backup.timeline, backup.end_timeline) == (1, 1)
        assert [space.oid for space in backup.tablespaces] == [None]
        assert (backup.tablespaces[0].size or 0) > 1 << 20
        # The connection takes the next command.
        assert sender.identify().position >= backup.end
    assert list(found) == ["base.tar", "backup_manifest"]
    with tarfile.open(fileobj=io.BytesIO(found["base.tar"])) as tar:
        names = tar.getnames()
    assert {"PG_VERSION", "backup_label", "global/pg_control"} <= set(names)
    manifest = json.loads(found["backup_manifest"])
    assert lsn.parse(manifest["WAL-Ranges"][0]["Start-LSN"]) == backup.start


def test_tablespaces_are_separate_archives(server: Postgres, address: Address) -> None:
    folder = server.folder / "space"
    folder.mkdir()
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(f"CREATE TABLESPACE space LOCATION '{folder}'")
        connection.execute("CREATE TABLE spaced TABLESPACE space AS SELECT 1 AS one")
        with WalSender.connect(address) as sender:
            backup = sender.base_backup("test", fast=True)
            names = [archive.name for archive in backup.archives()]  # nothing is read: all is skipped
        oids = [space.oid for space in backup.tablespaces]
        assert {f"{oid}.tar" for oid in oids if oid} | {"base.tar", "backup_manifest"} == set(names)
        assert str(folder) in [space.location for space in backup.tablespaces]
        connection.execute("DROP TABLE spaced")
        connection.execute("DROP TABLESPACE space")
    folder.rmdir()


def test_a_base_backup_that_the_server_ends_is_an_error(server: Postgres, address: Address) -> None:
    with WalSender.connect(address) as sender:
        pid = sender.query("SELECT pg_backend_pid()")[0][0]
        backup = sender.base_backup("test", fast=True, max_rate_kib=32)
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute("SELECT pg_terminate_backend(%s::int)", [pid])
        with pytest.raises(ReplicationError):
            list(backup.archives())
        assert backup.end is None


@pytest.mark.parametrize("server", [SUPPORTED[-1]], indirect=True, ids=["newest"])
def test_a_wait_for_a_silent_server_can_be_stopped(address: Address) -> None:
    looks = 0
    connected = False

    def check() -> None:
        nonlocal looks
        looks += connected
        if looks > 1:
            raise StoppedError("stopped", hint="")

    with WalSender.connect(address, check=check) as sender:
        connected = True
        with pytest.raises(StoppedError):
            sender.query("SELECT pg_sleep(60)")


def test_the_end_of_a_timeline_names_the_next(server: Postgres, address: Address) -> None:
    """A standby is promoted while a client reads from it."""
    with WalSender.connect(address) as sender:
        backup = sender.base_backup("test", fast=True)
        folder = server.folder.with_name(f"standby{secrets.token_hex(3)}")
        (folder / "data").mkdir(parents=True, mode=0o700)
        for archive in backup.archives():
            data = b"".join(iter(archive.read, b""))
            if archive.name == "base.tar":
                unpack(data, folder / "data")
    (folder / "data" / "standby.signal").touch()
    (folder / "data" / "postgresql.auto.conf").write_text(f"primary_conninfo = '{server.url}'\n")
    with Postgres(folder, programs=server.programs, options={"wal_keep_size": "256MB"}) as standby:
        with WalSender.connect(parse(standby.url)) as sender:
            start = lsn.segment_start(backup.start, 16 << 20)
            stream = sender.stream(start, 1)
            with psycopg.connect(standby.url, autocommit=True) as connection:
                connection.execute("SELECT pg_promote()")
            ends: list[TimelineEnd] = []
            received_to = start

            def ended() -> bool:
                nonlocal received_to
                message = stream.read(0.2)
                if isinstance(message, Wal):
                    received_to = message.end
                elif isinstance(message, TimelineEnd):
                    ends.append(message)
                return bool(ends)

            until(ended, "the timeline ends")
            assert ends == [TimelineEnd(2, received_to)]
            assert stream.read() == ends[0]
            # The connection takes the next command: the history, and the next timeline from its beginning.
            history = sender.history(2).decode()
            assert history.split("\t")[:2] == ["1", lsn.text(received_to)]
            with pytest.raises(ReplicationError, match=r"not in this server's history"):
                sender.stream(lsn.segment_end(received_to, 16 << 20), 1)
        with WalSender.connect(parse(standby.url)) as sender:
            # Exactly at the end of timeline 1 there is nothing left.
            assert sender.stream(received_to, 1).read() == ends[0]
            assert sender.identify().timeline == 2
            following = sender.stream(lsn.segment_start(received_to, 16 << 20), 2)
            end = write(standby)
            received(following, lsn.segment_start(received_to, 16 << 20), end)
