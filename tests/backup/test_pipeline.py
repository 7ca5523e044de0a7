"""From a child's output to a stored object: all or nothing, and readable with standard programs."""

import hashlib
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
import zstandard

from backup.errors import DumpError, StoreError, VerificationError
from backup.load.fetch import fetch
from backup.pipeline import ChildSource, PackingOptions, Source, apart, transfer
from backup.pipeline.encrypt import decrypt, parse_identities, parse_recipients
from backup.store import MemoryStore, PartSizes
from sidecar import UsageError
from stack.paths import ROOT

pyrage = pytest.importorskip("pyrage")
MIB = 1 << 20


def child(code: str) -> ChildSource:
    return ChildSource([sys.executable, "-c", code], env=dict(os.environ), hint="read it")


def send(source: Source, store: MemoryStore, packing: PackingOptions | None = None) -> object:
    return transfer(source, store, "db/id", "x", role="archive", packing=packing or PackingOptions(threads=1))


def nothing_is_left(store: MemoryStore) -> bool:
    return not store.objects and not store.uploads


def test_the_description_matches_what_was_sent() -> None:
    store = MemoryStore()
    stored = transfer(
        child("print('hello ' * 10000, end='')"),
        store,
        "db/id",
        "x",
        role="archive",
        packing=PackingOptions(threads=1),
    )
    data = store.get("db/id/x.zst")
    assert stored.raw_bytes == 60000
    assert (stored.stored_bytes, stored.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert zstandard.ZstdDecompressor().decompressobj().decompress(data) == b"hello " * 10000


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (
            "import sys; print('x' * 5000000); sys.stderr.write('no such table'); sys.exit(3)",
            "status 3: no such table",
        ),
        ("import os; print('x' * 5000000, flush=True); os.kill(os.getpid(), 9)", "killed by signal 9"),
        ("import sys; sys.exit(1)", "it printed no message"),
    ],
)
@pytest.mark.parametrize("encrypted", [False, True])
def test_a_dump_that_fails_leaves_nothing(code: str, message: str, encrypted: bool) -> None:
    store = MemoryStore()
    recipients = (pyrage.x25519.Identity.generate().to_public(),) if encrypted else ()
    with pytest.raises(DumpError, match=message):
        send(child(code), store, PackingOptions(threads=1, recipients=recipients))
    assert nothing_is_left(store)


@pytest.mark.parametrize("operation", ["begin", "part", "complete"])
@pytest.mark.parametrize("encrypted", [False, True])
def test_a_store_that_fails_leaves_nothing(operation: str, encrypted: bool) -> None:
    def fault(current: str, key: str) -> None:
        if current == operation:
            raise StoreError("the disk is full", hint="", operation=current)

    store = MemoryStore(fault=fault)
    recipients = (pyrage.x25519.Identity.generate().to_public(),) if encrypted else ()
    packing = PackingOptions(threads=1, recipients=recipients, sizes=PartSizes(first=100_000))
    with pytest.raises(StoreError, match="the disk is full"):
        send(child("import os,sys; sys.stdout.buffer.write(os.urandom(3000000))"), store, packing)
    assert nothing_is_left(store)


def test_any_recipient_can_read_it() -> None:
    identities = [pyrage.x25519.Identity.generate() for _ in range(3)]
    recipients = tuple(parse_recipients([str(identity.to_public()) for identity in identities[:2]]))
    store = MemoryStore()
    send(child("print('secret', end='')"), store, PackingOptions(threads=2, recipients=recipients))
    data = store.get("db/id/x.zst.age")
    assert b"secret" not in data
    for identity in identities[:2]:
        plain = io.BytesIO()
        decrypt(io.BytesIO(data), plain, parse_identities(f"# comment\n{identity}\n"))
        assert zstandard.ZstdDecompressor().decompressobj().decompress(plain.getvalue()) == b"secret"
    with pytest.raises(VerificationError, match="decryption failed"):
        decrypt(io.BytesIO(data), io.BytesIO(), [identities[2]])


def test_an_ordinary_key_may_begin_like_another_kind() -> None:
    """One of 32,768 does."""
    ordinary = "age1tagn70ftlf9xfjt4sfe46qyfuztvs54vs246qvkjx44j4plnvceqatcs8s"
    assert [str(each) for each in parse_recipients([ordinary])] == [ordinary]


def test_invalid_keys_are_refused_without_repeating_them() -> None:
    secret = str(pyrage.x25519.Identity.generate())
    with pytest.raises(UsageError) as caught:
        parse_recipients([secret])
    assert secret not in caught.value.message
    with pytest.raises(UsageError) as caught:
        parse_identities("AGE-SECRET-KEY-1WRONG")
    assert "WRONG" not in caught.value.message
    for wrong in ("age1nonsense", "ssh-nonsense", "nonsense"):
        with pytest.raises(UsageError):
            parse_recipients([wrong])
    with pytest.raises(UsageError):
        parse_identities("# only a comment")


def test_unsupported_kinds_of_keys_get_a_short_message() -> None:
    """A post-quantum key has 2,000 characters, and copying it again would not help."""
    for found in (
        lambda: parse_recipients(["age1pq1" + "q" * 1900]),
        lambda: parse_identities("AGE-SECRET-KEY-PQ-1X"),
    ):
        with pytest.raises(UsageError, match=r"post-quantum key.*not supported") as caught:
            found()
        assert "without -pq" in caught.value.hint
    with pytest.raises(UsageError, match="is not a valid public key") as caught:
        parse_recipients(["age1tagpq1" + "q" * 1900])
    assert len(caught.value.message) < 300


@pytest.mark.parametrize("encrypted", [False, True])
@pytest.mark.parametrize("least", [0, apart.LEAST])
@pytest.mark.parametrize("damage", ["none", "flip", "truncate", "extend", "remove"])
def test_a_fetch_reports_what_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encrypted: bool, least: int, damage: str
) -> None:
    monkeypatch.setattr(apart, "LEAST", least)
    identity = pyrage.x25519.Identity.generate()
    store = MemoryStore()
    packing = PackingOptions(threads=1, recipients=(identity.to_public(),) if encrypted else ())
    code = "import random,sys; sys.stdout.buffer.write(random.Random(1).randbytes(300000))"
    stored = transfer(child(code), store, "db/id", "x", role="archive", packing=packing)
    key = f"db/id/{stored.name}"
    data = bytearray(store.get(key))
    if damage == "flip":
        data[len(data) // 2] ^= 1
    elif damage == "truncate":
        del data[-1000:]
    elif damage == "extend":
        data += b"more"
    store.put(key, bytes(data))
    if damage == "remove":
        store.delete([key])
    got = fetch(store, key, stored, tmp_path / "plain", (identity,))
    if damage == "none":
        assert (got.sha256, got.problem, got.raw_bytes) == (stored.sha256, None, 300000)
    elif damage == "remove":
        assert got.sha256 is None
    else:
        # The whole object is hashed, however early decoding fails.
        assert got.sha256 == hashlib.sha256(data).hexdigest() != stored.sha256
        assert got.stored_bytes == len(data)


ENDLESS = """
import secrets, sys
from pathlib import Path
import pyrage
from backup.pipeline import PackingOptions, Source, transfer
from backup.store import LocalStore

class Endless(Source):
    left, block = int(sys.argv[2]), secrets.token_bytes(1 << 20)

    def read(self):
        data = self.block[: self.left]
        self.left -= len(data)
        return data

    def close(self):
        pass

packing = PackingOptions(threads=2, recipients=(pyrage.x25519.Identity.generate().to_public(),))
transfer(Endless(), LocalStore(Path(sys.argv[1])), "db/id", "x", role="archive", packing=packing)
print(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])
"""
MAX_RSS = 200 * 10**6


def test_memory_does_not_grow_with_the_data(tmp_path: Path) -> None:
    """Measured by a separate process itself, because the result of wait() includes the parent's peak."""

    def peak_of(size: int) -> int:
        command = [sys.executable, "-c", ENDLESS, str(tmp_path), str(size)]
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True, check=True)
        return int(done.stdout) * 1024

    small, big = peak_of(64 * MIB), peak_of(320 * MIB)
    assert big - small < (320 - 64) // 4 * MIB
    assert big < MAX_RSS
