"""Storing and deleting media files: the bytes in the store, the row in the database."""

import hashlib
import logging
import uuid
from collections.abc import Iterable, Iterator

from django.db import transaction

from accounts.models import User
from config.errors import Conflict
from media import images, links, store, videos
from media.models import Asset
from monitoring.metrics import MEDIA_BYTES

log = logging.getLogger(__name__)


def _key(owner_id: int, pk: uuid.UUID, variant: str) -> str:
    return f"{owner_id}/{pk}/{variant}"


def save_image(owner: User, pk: uuid.UUID, content: bytes) -> Asset:
    """Check an image and put it into the store. The asset is returned unsaved: its row commits the upload.

    The id decides the keys, so an upload that is repeated after a crash replaces the first one.

    Raises:
        InvalidImageError: the content is not an acceptable image.
        StoreError: the store failed.
    """
    facts, thumbnail = images.inspect(content)
    place = store.current()
    place.put(_key(owner.pk, pk, links.ORIGINAL), content, facts.content_type)
    place.put(_key(owner.pk, pk, links.THUMBNAIL), thumbnail, images.THUMBNAIL_TYPE)
    MEDIA_BYTES.labels(Asset.Kind.IMAGE).inc(len(content) + len(thumbnail))
    return Asset(
        id=pk,
        owner=owner,
        kind=Asset.Kind.IMAGE,
        content_type=facts.content_type,
        width=facts.width,
        height=facts.height,
        size=len(content),
        digest=hashlib.sha256(content).hexdigest(),
    )


def save_video(owner: User, pk: uuid.UUID, chunks: Iterable[bytes]) -> Asset:
    """Check a video while it is streamed into the store. The asset is returned unsaved, as for an image.

    Raises:
        InvalidVideoError: the content is not an acceptable video, and nothing was stored.
        StoreError: the store failed.
    """
    inspector = videos.Inspector()
    key = _key(owner.pk, pk, links.ORIGINAL)
    store.current().put_stream(key, inspector.passing(chunks), videos.CONTENT_TYPE)
    facts = inspector.facts
    MEDIA_BYTES.labels(Asset.Kind.VIDEO).inc(facts.size)
    return Asset(
        id=pk,
        owner=owner,
        kind=Asset.Kind.VIDEO,
        content_type=videos.CONTENT_TYPE,
        width=facts.width,
        height=facts.height,
        duration=facts.seconds,
        size=facts.size,
        digest=facts.digest,
    )


def uploaded(owner: User, pk: uuid.UUID) -> bytes | None:
    """What an earlier attempt with this ID uploaded, if anything.

    Raises:
        StoreError: the store failed.
    """
    try:
        return store.current().get(_key(owner.pk, pk, links.ORIGINAL))
    except store.MissingObjectError:
        return None


def files_of(asset: Asset) -> list[tuple[str, int | None]]:
    """The keys of an asset's files, with their sizes in bytes where the row has them."""
    files: list[tuple[str, int | None]] = [(_key(asset.owner_id, asset.pk, links.ORIGINAL), asset.size)]
    if asset.kind == Asset.Kind.IMAGE:
        files.append((_key(asset.owner_id, asset.pk, links.THUMBNAIL), None))
    return files


def read(asset: Asset, variant: str) -> bytes:
    """The bytes of a file.

    Raises:
        MissingObjectError, StoreError: see media.store.
    """
    return store.current().get(_key(asset.owner_id, asset.pk, variant))


def stream(asset: Asset, first: int, last: int) -> Iterator[bytes]:
    """The bytes of the original from `first` to `last`, both included.

    Raises:
        MissingObjectError, StoreError: see media.store.
    """
    return store.current().stream(_key(asset.owner_id, asset.pk, links.ORIGINAL), first, last)


@transaction.atomic
def delete(asset: Asset) -> None:
    """Delete the row; media.receivers then deletes the files.

    Raises:
        Conflict: a post uses the file.
    """
    asset = Asset.objects.select_for_update().get(pk=asset.pk)
    if asset.posts.exists():
        raise Conflict("A post uses this file. Remove it from the post first.", code="media_in_use")
    asset.delete()


def discard(owner_id: int, pk: uuid.UUID) -> None:
    """Delete files without a row. A failure leaves them behind, and is logged."""
    if not store.is_configured():
        return
    for variant in (links.ORIGINAL, links.THUMBNAIL):
        try:
            store.current().delete(_key(owner_id, pk, variant))
        except store.StoreError:
            log.exception("media file not deleted", extra={"asset": str(pk), "variant": variant})
