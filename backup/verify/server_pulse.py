"""Asks the server of BACKUP_VERIFY_URL now and then whether it still answers.

A restore may wait for hours for one index, so its own silence shows nothing.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from backup.cancellation import Pulse, Stop
from backup.postgres.dsn import Address
from backup.postgres.session import session
from sidecar import OpsError

PAUSE_SECONDS = 30.0
ANSWER_SECONDS = 10.0


@contextmanager
def asked(address: Address, stop: Stop, database: str) -> Iterator[None]:
    """Within the block, the pulse of the work on a database is that of this server."""
    pulse, over = Pulse(), threading.Event()

    def ask() -> None:
        while not over.wait(PAUSE_SECONDS):
            with suppress(OpsError), stop.limit(ANSWER_SECONDS), session(address) as connection:
                connection.execute("SELECT 1")
                pulse.beat()

    # It ends with the process: nothing waits for a server that is silent.
    threading.Thread(target=ask, name=f"server of {database}", daemon=True).start()
    with stop.showing(database, pulse):
        try:
            yield
        finally:
            over.set()
