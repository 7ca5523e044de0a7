"""S3 servers other than Amazon's: nothing that they ignore or refuse may prevent a backup."""

import os
import secrets
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import boto3
import pytest
from botocore.exceptions import BotoCoreError, ClientError

from backup.catalogue.records import Attempt
from backup.catalogue.sweep import sweep
from backup.errors import NotFoundError, StoreError
from backup.pipeline.sink import PartSink
from backup.settings import BackupSettings
from backup.store import PartSizes, S3Options
from backup.store.s3 import S3Store
from backup.wiring import wire
from stack import ports
from stack.servers import ObjectStore
from stack.wait import wait_for
from tests.backup.restorekit import Command
from tests.backup.storeservers import KEY, SECRET, SERVERS, command

MIB = 1 << 20
# Servers without retention locks; both accept a request for one.
LOCKLESS = ("rclone", "s3proxy")


@dataclass(frozen=True)
class Server:
    name: str
    endpoint: str
    key: str = KEY
    secret: str = SECRET

    @property
    def client(self) -> Any:
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=self.key,
            aws_secret_access_key=self.secret,
        )

    def bucket(self, **how: Any) -> str:
        name = f"b{secrets.token_hex(4)}"
        self.client.create_bucket(Bucket=name, **how)
        return name

    def store(
        self, bucket: str, checksum: Literal["when_required", "when_supported"] = "when_required", **more: Any
    ) -> S3Store:
        options = S3Options(
            endpoint_url=self.endpoint,
            access_key_id=self.key,
            secret_access_key=self.secret,
            checksum=checksum,
            **more,
        )
        return S3Store(bucket, f"p-{secrets.token_hex(3)}", options)


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    name = request.param
    if name == "rclone":
        embedded: ObjectStore = request.getfixturevalue("object_store")
        yield Server("rclone", embedded.endpoint, embedded.access_key, embedded.secret_key)
        return
    folder, port = tmp_path_factory.mktemp("server"), ports.choose()
    arguments = command(name, folder, port)
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(arguments, stdout=log, stderr=log, cwd=folder) as process,
    ):
        made = Server(name, f"http://127.0.0.1:{port}")
        try:
            wait_for(lambda: _answers(made), timeout=150, what=name, hint=str(folder / "log"))
            yield made
        finally:
            process.kill()


def _answers(server: Server) -> bool:
    try:
        server.client.list_buckets()
    except (ClientError, BotoCoreError):
        return False
    return True


@pytest.mark.parametrize("checksum", ["when_required", "when_supported"])
def test_both_checksum_settings(server: Server, checksum: Literal["when_required", "when_supported"]) -> None:
    store = server.store(server.bucket(), checksum)
    data = os.urandom(11 * MIB)
    sink = PartSink(store.begin("a/big"), PartSizes(first=5 * MIB))
    sink.write(data)
    sink.finish()
    sink.commit()
    assert b"".join(store.stream("a/big")) == data
    assert b"".join(store.stream("a/big", start=7 * MIB)) == data[7 * MIB :]
    store.put("a/small", b"1")
    assert store.get("a/small") == b"1"


def test_the_contract(server: Server) -> None:
    store = server.store(server.bucket())
    keys = ["a/x", "a-b/x", "a.txt", "a0"]
    for key in keys:
        store.put(key, b"xyz")
    assert [info.key for info in store.walk()] == sorted(keys)
    assert list(store.stream("a.txt", start=3)) == []
    assert b"".join(store.stream("a.txt", start=1)) == b"yz"
    with pytest.raises(NotFoundError):
        store.get("nothing")
    assert store.delete([*keys, "nothing"]) == []
    assert list(store.walk()) == []
    store.begin("shop/20200101T000000Z-aaaaaa/database.dump")
    assert sweep(store, "shop").uploads == 1
    assert sweep(store, "shop").uploads == 0


def test_a_bucket_that_locks_everything(
    server: Server,
    environ: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A default retention requires a digest with each body; runs, reports and records are stored; a lock is not a missing privilege."""
    if server.name in LOCKLESS:
        return
    bucket = server.bucket(ObjectLockEnabledForBucket=True)
    rule = {"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 1}}}
    server.client.put_object_lock_configuration(Bucket=bucket, ObjectLockConfiguration=rule)
    run = Command({**environ, **_settings(server, bucket)}, monkeypatch, capsys)
    doctor = run("doctor")
    assert doctor.status == 0, doctor.out
    made = run.passed("run")
    assert run.passed("verify", made["id"])["ok"]
    assert run.passed("list")[0]["state"] == "verified"
    done = run("run")
    assert "was not written" not in done.err, done.err
    ended = history_of(run)
    assert [each.outcome for each in ended if each.kind == "backup"] == ["success", "success"]
    for verb, held in (("hold", True), ("release", False), ("hold", True)):
        run.passed(verb, made["id"])
        assert run.passed("show", made["id"])["on_hold"] is held


def test_a_lock_that_is_accepted_and_not_set(server: Server) -> None:
    until = datetime.now(UTC) + timedelta(days=1)
    if server.name in LOCKLESS:
        store = server.store(server.bucket(), object_lock=True)
        with pytest.raises(StoreError, match="accepted a retention lock and did not set it") as raised:
            store.put("k", b"1", retain_until=until)
        assert "BACKUP_S3_OBJECT_LOCK_DAYS=0" in raised.value.hint
        return
    bucket = server.bucket(ObjectLockEnabledForBucket=True)
    store = server.store(bucket, object_lock=True)
    store.put("k", b"1", retain_until=until)
    refused = store.delete(["k"])
    assert [each.key for each in refused] == ["k"]
    assert store.get("k") == b"1"


def test_locks_that_doctor_finds_are_those_of_a_run(
    server: Server,
    environ: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Moto locks small objects only, not those of multipart uploads."""
    bucket = server.bucket() if server.name in LOCKLESS else server.bucket(ObjectLockEnabledForBucket=True)
    settings = {**_settings(server, bucket), "BACKUP_S3_OBJECT_LOCK_DAYS": "1"}
    run = Command({**environ, **settings}, monkeypatch, capsys)
    locks = server.name not in (*LOCKLESS, "moto")
    for verb in ("doctor", "run"):
        done = run(verb)
        assert done.status == (0 if locks else 1), (verb, done)
        assert ("did not set it" in done.out + done.err) is not locks, (verb, done)


def test_doctor_tries_what_a_run_uses(
    server: Server,
    environ: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Locks are configured, and the bucket has none: doctor and run report it, and neither refers to the other."""
    settings = {**_settings(server, server.bucket()), "BACKUP_S3_OBJECT_LOCK_DAYS": "1"}
    run = Command({**environ, **settings}, monkeypatch, capsys)
    for verb in ("doctor", "run"):
        done = run(verb)
        assert done.status == 1, (verb, done)
        assert "BACKUP_S3_OBJECT_LOCK_DAYS=0" in " ".join((done.out + done.err).split()), (verb, done)


def history_of(run: Command) -> tuple[Attempt, ...]:
    """The attempts that any reader of the store sees."""
    wiring = wire(BackupSettings.load(run.environ))
    return wiring.reader().read(wiring.clock()).history(wiring.targets[0].name).attempts


def _settings(server: Server, bucket: str) -> dict[str, str]:
    return {
        "BACKUP_STORE_URL": f"s3://{bucket}/prod",
        "BACKUP_S3_ENDPOINT_URL": server.endpoint,
        "BACKUP_S3_ACCESS_KEY_ID": server.key,
        "BACKUP_S3_SECRET_ACCESS_KEY": server.secret,
    }
