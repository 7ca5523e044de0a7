"""The web frontend in the demo: built if possible; otherwise, a line says why it is missing."""

import threading
from collections.abc import Callable
from pathlib import Path

from sidecar import OpsError
from stack import web
from stack.suite.environments import DEMO_PASSWORD
from stack.wait import join

SIGN_IN = f"sign in as demo1, or as demo-staff for the page “System”; the password is {DEMO_PASSWORD}"


class Building:
    """A build in the background, at low priority."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._files: Path | None = None
        self._say = say
        self._thread = threading.Thread(target=self._build, name="frontend", daemon=True)
        self._thread.start()

    def result(self) -> Path | None:
        """Wait for it; None if it cannot be built."""
        join(self._thread)
        return self._files

    def _build(self) -> None:
        self._files = files(self._say)


def files(say: Callable[[str], None]) -> Path | None:
    """The build of the frontend, built now if necessary; None if it cannot be built."""
    try:
        return web.build(say, tidy=True)
    except OpsError as error:
        say(f"without the web frontend: {error.message.splitlines()[0]} ({error.hint})")
        return None
