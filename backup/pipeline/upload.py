"""Streams one source through zstd and age into one object of a store: bounded memory, all or nothing."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime

from backup.catalogue.manifest import Role, StoredObject
from backup.pipeline.compress import CompressedReader, thread_count
from backup.pipeline.encrypt import Recipient, encrypt
from backup.pipeline.sink import PartSink
from backup.pipeline.source import Source
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
    key = f"{folder}/{name}{packing.suffix}"
    with source, _sink(store, key, packing) as sink:
        reader = CompressedReader(
            source, level=packing.level, threads=thread_count(packing.threads), progress=progress
        )
        _pump(reader, sink, packing)
        digest = sink.finish()
        sink.commit()
    return StoredObject(
        name=key.rpartition("/")[2],
        role=role,
        raw_bytes=reader.raw_bytes,
        stored_bytes=sink.size,
        sha256=digest,
        encryption="age" if packing.recipients else None,
    )


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
    sink = PartSink(upload, packing.sizes, threads=packing.upload_threads)
    try:
        yield sink
    except BaseException:
        sink.abort()
        raise
