"""PostgreSQL's server programs refuse to run as root; this lets root run them all the same."""

import os
from collections.abc import Sequence

# Any number but 0: inside the namespace it stands for the caller, who keeps the caller's rights on files.
SEEMING_ID = 1000


def rootless(command: Sequence[str]) -> list[str]:
    """The command, run in a user namespace where root seems to be an ordinary user; unchanged for everybody else.

    The process keeps its pid, its signals and its access to root's files. Needs util-linux' ``unshare``.
    """
    if os.geteuid() != 0:
        return list(command)
    return ["unshare", "--user", f"--map-user={SEEMING_ID}", f"--map-group={SEEMING_ID}", *command]
