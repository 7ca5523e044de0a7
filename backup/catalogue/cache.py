"""Reads the documents of a store, each unchanged one only once."""

import logging
from collections import defaultdict, deque
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeAlias

from backup.cancellation import carry
from backup.catalogue.document import D, Document, decode, too_large
from backup.catalogue.manifest import Manifest
from backup.catalogue.packed import Packed
from backup.catalogue.signatures import Keyring, Trust
from backup.errors import CatalogueError, NotFoundError
from backup.store import ObjectInfo, Store

log = logging.getLogger(__name__)

# Maximum bytes of documents that are fetched ahead; a single one may be larger.
WAITING_BYTES = 32 << 20
Version: TypeAlias = tuple[str, str]
_Known: TypeAlias = tuple[Document, Trust] | CatalogueError


class DocumentCache:
    """The documents of one store.

    Args:
        keys: documents that none of them has signed are ignored.
    """

    def __init__(self, store: Store, keys: Keyring) -> None:
        self._store = store
        self._keys = keys
        # By database, key and version.
        self._seen: dict[str, dict[Version, _Known]] = defaultdict(dict)
        self._parts: dict[str, _SharedParts] = defaultdict(_SharedParts)

    def keep(self, database: str, current: Container[Version]) -> None:
        """Forget the documents of a database that no longer exist."""
        seen = self._seen[database]
        self._seen[database] = {key: known for key, known in list(seen.items()) if key in current}

    def fetch(self, wanted: Iterable[tuple[type[Document], ObjectInfo]]) -> None:
        """Read the documents that are not known yet: many at a time, where that is faster."""
        if self._store.parallel == 1:
            return  # each one when it is needed
        unknown = [
            (kind, info)
            for kind, info in wanted
            if (info.key, info.version) not in self._seen[_database(info)] and info.size <= kind.max_bytes
        ]
        if len(unknown) < 2:
            return
        with ThreadPoolExecutor(min(self._store.parallel, len(unknown)), thread_name_prefix="get") as pool:
            for kind, info, data in _fetched(pool, carry(self._bytes_of), unknown, self._store.parallel * 4):
                if data is not None:
                    self._seen[_database(info)][info.key, info.version] = self._read(kind, info, data)

    def _bytes_of(self, info: ObjectInfo) -> bytes | None:
        """The bytes of an object; None if it was deleted in the meantime."""
        try:
            return self._store.get(info.key)
        except NotFoundError:
            return None

    def believed(self, kind: type[D], info: ObjectInfo) -> D | None:
        """A document that can be trusted; None, and a warning, for any other."""
        try:
            document, trust = self.document(kind, info)
        except (CatalogueError, NotFoundError) as error:
            log.debug("%s is skipped: %s", info.key, error.message)
            return None
        return document if trust in ("unchecked", "signed") else None

    def document(self, kind: type[D], info: ObjectInfo) -> tuple[D, Trust]:
        """A document, and the verdict on its signature.

        Raises:
            CatalogueError: it is damaged, or not a document of this kind.
            NotFoundError: it was deleted in the meantime.
        """
        seen = self._seen[_database(info)]
        known = seen.get((info.key, info.version))
        if known is None:
            known = seen[info.key, info.version] = self._read(kind, info)
        if isinstance(known, CatalogueError):
            raise known
        document, trust = known
        assert isinstance(document, kind)
        return document, trust

    def _read(self, kind: type[Document], info: ObjectInfo, data: bytes | None = None) -> _Known:
        """A document, or what is wrong with it; a problem is reported once, not at every read."""
        try:
            # The object may have any size; one that is too large is not even fetched.
            if info.size > kind.max_bytes:
                raise too_large(kind, info.size, info.key)
            data = self._store.get(info.key) if data is None else data
            document, trust = decode(kind, data, info.key, self._keys)
        except CatalogueError as error:
            log.warning("%s", error.message)
            return error
        if trust in ("unsigned", "forged"):
            log.warning("%s is %s and is ignored", info.key, trust)
        if isinstance(document, Manifest):
            document = self._parts[_database(info)].sharing(document)
        return document, trust


class _SharedParts:
    """Names and numbers of the manifest that was read last: most are the same in the next one."""

    def __init__(self) -> None:
        self._last: dict[str, Packed[Any]] = {}

    def sharing(self, manifest: Manifest) -> Manifest:
        """The same manifest, with the parts of the last one where they are equal."""
        return manifest.model_copy(
            update={
                name: self._shared(name, getattr(manifest, name))
                for name in ("tables", "sequences", "provided")
            }
        )

    def _shared(self, name: str, parts: Sequence[Any]) -> Sequence[Any]:
        if not isinstance(parts, Packed):
            return parts
        before = self._last.get(name)
        self._last[name] = parts if before is None else parts.sharing(before)
        return self._last[name]


def _fetched(
    pool: ThreadPoolExecutor,
    get: Callable[[ObjectInfo], bytes | None],
    wanted: Iterable[tuple[type[Document], ObjectInfo]],
    most: int,
) -> Iterator[tuple[type[Document], ObjectInfo, bytes | None]]:
    """The bytes of documents, in order. The next ones are fetched meanwhile, as many as fit into memory."""
    begun: deque[tuple[type[Document], ObjectInfo, Future[bytes | None]]] = deque()
    size = 0

    def first() -> tuple[type[Document], ObjectInfo, bytes | None]:
        kind, info, coming = begun.popleft()
        return kind, info, coming.result()

    for kind, info in wanted:
        while begun and (len(begun) == most or size + info.size > WAITING_BYTES):
            size -= begun[0][1].size
            yield first()
        begun.append((kind, info, pool.submit(get, info)))
        size += info.size
    while begun:
        yield first()


def _database(info: ObjectInfo) -> str:
    return info.key.partition("/")[0]
