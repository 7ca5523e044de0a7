"""Names the files that rows need and the media store lacks: what to copy back after a restore of the database."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn

from django.core.management.base import BaseCommand

from media import services, store
from media.models import Asset

# Requests to the store at a time.
REQUESTS = 16


class Command(BaseCommand):
    help = "Name the files that rows need and the media store lacks, one key a line."

    def handle(self, *args: Any, **options: Any) -> None:
        if not store.is_configured():
            self._fail("no media store is configured", "set MEDIA_STORE_URL", 2)
        needed = missing = 0
        try:
            for key, is_stored in _checked():
                needed += 1
                if not is_stored:
                    missing += 1
                    self.stdout.write(key)
        except store.StoreError as error:
            self._fail(str(error), "test the store with ./ops doctor, and run this again", 1)
        self.stderr.write(f"{missing} of {needed} files are missing")
        if missing:
            raise SystemExit(1)

    def _fail(self, message: str, hint: str, code: int) -> NoReturn:
        self.stderr.write(f"Error: {message}\nTry: {hint}")
        raise SystemExit(code)


def _checked() -> Iterator[tuple[str, bool]]:
    """Each file that a row needs, and whether the store has it with the size in the row."""
    place = store.current()
    with ThreadPoolExecutor(REQUESTS) as pool:
        for asset in Asset.objects.order_by("created_at").iterator():
            files = services.files_of(asset)
            for (key, size), found in zip(
                files, pool.map(place.size, (key for key, _ in files)), strict=True
            ):
                yield key, found is not None and size in (None, found)
