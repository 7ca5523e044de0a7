"""Streams one source through zstd and age into one object of a store: bounded memory, all or nothing."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from backup.catalogue.manifest import Role, StoredObject
from backup.pipeline.compress import CompressedReader, thread_count
from backup.pipeline.encrypt import Recipient, encrypt
from backup.pipeline.sink import PartSink
from backup.pipeline.source import Source
from backup.pipeline.spill import Spill
from backup.progress import Progress, silent
from backup.store import PartSizes, Store


@dataclass(frozen=True)
class PackingOptions:
    """How bytes are compressed, encrypted and uploaded.

    Attributes:
        recipients: parsed age recipients; none means no encryption.
        retain_until: the end of the lock that the store is asked to set on objects.
    """

    level: int = 2
    threads: int = 0
    recipients: tuple[Recipient, ...] = ()
    sizes: PartSizes = field(default_factory=PartSizes)
    upload_threads: int = 3
    retain_until: datetime | None = None
    spill: tuple[Path, float] | None = None

    @property
    def suffix(self) -> str:
        return ".zst.age" if self.recipients else ".zst"


def transfer(
    source: Source,
    store: Store,
    folder: str,
    name: str,
    *,
    role: Role,
    packing: PackingOptions,
    progress: Progress = silent,
) -> StoredObject:
    """Send a source to the store as ``folder/name`` plus suffixes for compression and encryption.

    Returns:
        The stored object, after the source has succeeded and the store has the whole object.

    Raises:
        DumpError: the source ended early. The upload was aborted.
        StoreError: the store failed after all retries. The upload was aborted if the store allowed it.
    """
    with packed(source, store, folder, name, role=role, packing=packing, progress=progress) as made:
        return made.finish()


class Packed:
    """An object whose source has ended; some of it may not have arrived in the store yet."""

    def __init__(self, sink: PartSink, key: str, role: Role, raw_bytes: int, *, encrypted: bool) -> None:
        self._sink = sink
        self._key = key
        self._role = role
        self._raw_bytes = raw_bytes
        self._encrypted = encrypted

    def finish(self) -> StoredObject:
        """Wait until everything has arrived, and make the object appear.

        Raises:
            StoreError: the store failed after all retries.
        """
        digest = self._sink.finish()
        self._sink.commit()
        return StoredObject(
            name=self._key.rpartition("/")[2],
            role=self._role,
            raw_bytes=self._raw_bytes,
            stored_bytes=self._sink.size,
            sha256=digest,
            encryption="age" if self._encrypted else None,
        )


@contextmanager
def packed(
    source: Source,
    store: Store,
    folder: str,
    name: str,
    *,
    role: Role,
    packing: PackingOptions,
    progress: Progress = silent,
) -> Iterator[Packed]:
    """Read a source to its end, and send it meanwhile; see :func:`transfer`.

    In the block the source has ended, so whatever it has held open can be closed before the rest is sent.
    """
    key = f"{folder}/{name}{packing.suffix}"
    with _sink(store, key, packing) as sink:
        with source:
            reader = CompressedReader(
                source, level=packing.level, threads=thread_count(packing.threads), progress=progress
            )
            _pump(reader, sink, packing)
        yield Packed(sink, key, role, reader.raw_bytes, encrypted=bool(packing.recipients))


def _pump(reader: CompressedReader, sink: PartSink, packing: PackingOptions) -> None:
    try:
        encrypt(reader, sink, packing.recipients)
    except BaseException:
        if reader.failure is not None:
            raise reader.failure from None
        # Encryption wraps the failure of a part; re-raise the original.
        sink.raise_failure()
        raise


@contextmanager
def _sink(store: Store, key: str, packing: PackingOptions) -> Iterator[PartSink]:
    upload = store.begin(key, retain_until=packing.retain_until)
    # Unencrypted data is written only to the store.
    spill = Spill(*packing.spill) if packing.spill and packing.recipients else None
    sink = PartSink(upload, packing.sizes, threads=packing.upload_threads, spill=spill)
    try:
        yield sink
    except BaseException:
        sink.abort()
        raise
