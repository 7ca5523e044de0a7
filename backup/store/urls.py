"""Opens the store of a URL."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from backup.store.base import Store
from backup.store.local import LocalStore
from backup.store.options import S3Options
from sidecar import UsageError

HINT = "use s3://bucket/prefix or file:///folder"


def open_store(url: str, options: S3Options, name: str = "main") -> Store:
    """The store at a URL.

    Raises:
        UsageError: the URL has an unknown scheme, or does not name a bucket.
    """
    parts = urlsplit(url)
    refuse_login(url, "the store URL")
    if parts.scheme == "file":
        return LocalStore(_folder(url), name)
    if parts.scheme == "s3":
        if not parts.netloc:
            raise UsageError(f"the store URL {url} does not name a bucket", hint=HINT)
        # Its import takes half of a command's start-up time, and only this needs it.
        from backup.store.s3 import S3Store

        return S3Store(parts.netloc, unquote(parts.path).strip("/"), options, name)
    raise UsageError(f"the store URL {url} has an unknown scheme {parts.scheme!r}", hint=HINT)


def refuse_login(url: str, what: str) -> None:
    """Check that a URL that will be shown contains no credentials.

    Raises:
        UsageError: it does. The URL is not shown.
    """
    if "@" in urlsplit(url).netloc:
        raise UsageError(
            f"{what} contains a key or a password, but it is shown in logs and on the status page",
            hint="set BACKUP_S3_ACCESS_KEY_ID and BACKUP_S3_SECRET_ACCESS_KEY_FILE, and remove them from the URL",
        )


def _folder(url: str) -> Path:
    parts = urlsplit(url)
    if parts.netloc or not parts.path.strip("/"):
        raise UsageError(f"the store URL {url} does not name an absolute folder", hint=HINT)
    return Path(unquote(parts.path))
