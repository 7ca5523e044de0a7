"""Finds a Node.js that can build the frontend."""

import json
import re
import shutil
import subprocess
from functools import cache

from stack.paths import ROOT

FRONTEND = ROOT / "app" / "frontend"
HINT = "install Node.js 20.19 or newer with npm (https://nodejs.org; Debian 13: apt-get install nodejs npm)"


@cache
def why_not() -> str | None:
    """Why the frontend cannot be built on this machine, or None when it can."""
    missing = [name for name in ("node", "npm") if shutil.which(name) is None]
    if missing:
        return f"{' and '.join(missing)} not found; {HINT}"
    done = subprocess.run(["node", "--version"], capture_output=True, text=True, check=False)
    found = _numbers(done.stdout)
    if done.returncode != 0 or not serves(found, _wanted()):
        return f"Node.js {done.stdout.strip() or 'does not start'} is too old; {HINT}"
    return None


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
