"""The login and settings of PostgreSQL's programs."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from backup.postgres.dsn import Address
from backup.postgres.session import login
from backup.programs import clean_environment, pinned


@contextmanager
def child_access(address: Address) -> Iterator[tuple[dict[str, str], tuple[int, ...]]]:
    """Environment and inherited descriptors that let a child process log in, with no password in either.

    The password is in a passfile that exists only in memory, and no longer than this process.
    """
    known = login(address)
    settings = pinned(known.version, superuser=known.superuser)
    environment = {**clean_environment(), "PGOPTIONS": address.options(settings)}
    if not address.password:
        yield environment, ()
        return
    handle = os.memfd_create("passfile", 0)
    try:
        os.fchmod(handle, 0o600)  # libpq rejects a passfile that others may read
        os.write(handle, f"*:*:*:*:{_escaped(address.password)}\n".encode())
        yield {**environment, "PGPASSFILE": f"/proc/self/fd/{handle}"}, (handle,)
    finally:
        os.close(handle)


def _escaped(password: str) -> str:
    return password.replace("\\", "\\\\").replace(":", "\\:")
