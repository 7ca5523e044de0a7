"""The web frontend in the demo: built where possible; elsewhere, a line says why it is missing."""

from collections.abc import Callable
from pathlib import Path

from sidecar import OpsError
from stack import web
from stack.suite.environments import DEMO_PASSWORD

SIGN_IN = f"sign in as demo1, or as demo-staff for the page “System”; the password is {DEMO_PASSWORD}"


def files(say: Callable[[str], None]) -> Path | None:
    """The build of the frontend, built now if necessary; None where it cannot be built."""
    try:
        return web.build(say, tidy=True)
    except OpsError as error:
        say(f"without the web frontend: {error.message.splitlines()[0]} ({error.hint})")
        return None
