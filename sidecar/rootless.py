"""Lets root run PostgreSQL's server programs, which refuse to run as root."""

import os
from collections.abc import Sequence

# Any number but 0: inside the namespace, it maps to the caller, with the caller's file permissions.
SEEMING_ID = 1000


def rootless(command: Sequence[str]) -> list[str]:
    """The command, run in a user namespace where root seems to be an ordinary user; unchanged for other users.

    The process keeps its pid, its signals and its access to root's files. Needs util-linux' ``unshare``.
    """
    if os.geteuid() != 0:
        return list(command)
    return ["unshare", "--user", f"--map-user={SEEMING_ID}", f"--map-group={SEEMING_ID}", *command]
