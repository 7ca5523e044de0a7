"""The temporary folder of a suite's programs, removed with everything that they leave in it, processes included."""

import os
import secrets
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

import psutil

# The kernel's limit for a socket path, minus what a verification adds to its temporary folder.
LONGEST_PATH = 107 - len("/posthub-verify-12345678/.s.PGSQL.5432")
ENDING_SECONDS = 10.0


def choose(folder: Path) -> Path:
    """The path: in the suite's folder, or in the system's if socket paths would be too long there."""
    inside = folder.absolute() / "tmp"
    if len(os.fsencode(inside)) <= LONGEST_PATH:
        return inside
    return Path(tempfile.gettempdir()) / f"posthub-ops-{secrets.token_hex(4)}"


def make(scratch: Path) -> None:
    """Create it, readable by its owner only."""
    scratch.mkdir(mode=0o700, parents=True, exist_ok=True)


def clear(scratch: Path) -> None:
    """Remove it, and end the servers in it that their owners left behind."""
    for process in psutil.process_iter(["cmdline"]):
        if _is_in(process, scratch):
            _kill(process)
    shutil.rmtree(scratch, ignore_errors=True)


def _is_in(process: psutil.Process, scratch: Path) -> bool:
    return any(word.startswith(f"{scratch}/") for word in process.info["cmdline"] or ())


def _kill(process: psutil.Process) -> None:
    with suppress(psutil.NoSuchProcess):  # it may have just ended
        group = [process, *process.children(recursive=True)]
        for member in group:
            member.kill()
        psutil.wait_procs(group, timeout=ENDING_SECONDS)
