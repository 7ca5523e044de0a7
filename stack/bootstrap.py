"""Makes the virtual environment from the lock file and hands over to the command line. Standard library only.

It runs before anything is installed, with the machine's own Python.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
LOCK = ROOT / "locks" / "dev.txt"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "installed"
MODULE = "stack"


def main() -> None:
    """Install what is missing, then become ``python -m stack``."""
    _ensure()
    # matplotlib would keep its list of fonts in the user's home folder.
    environment = {
        **os.environ, "PYTHONPATH": str(ROOT), "VIRTUAL_ENV": str(VENV), "MPLCONFIGDIR": str(ROOT / ".ops/matplotlib"),
    }  # fmt: skip
    os.execve(PYTHON, [str(PYTHON), "-m", MODULE, *sys.argv[1:]], environment)


def _ensure() -> None:
    wanted = _fingerprint()
    if _installed() == wanted:
        return
    state = ROOT / ".ops"
    state.mkdir(exist_ok=True)
    with (state / "setup.lock").open("w") as handle:
        # Two first starts at once: the second waits and finds everything done.
        fcntl.flock(handle, fcntl.LOCK_EX)
        if _installed() != wanted:
            _install(state / "setup.log")
            STAMP.write_text(wanted)


def _identity() -> str:
    """The interpreter and the place: scripts in a virtual environment hold its path."""
    return f"{sys.version} {VENV}".replace("\n", " ")


def _fingerprint() -> str:
    """What must be installed: this lock, in this virtual environment."""
    return f"{_identity()}\n{hashlib.sha256(LOCK.read_bytes()).hexdigest()}"


def _installed() -> str:
    try:
        return STAMP.read_text() if PYTHON.exists() else ""
    except OSError:
        return ""


def _install(log: Path) -> None:
    began = time.monotonic()
    _say("installing the locked dependencies into .venv (a minute or two, only this time)")
    if _installed().partition("\n")[0] != _identity():
        if VENV.is_dir() and not VENV.is_symlink():
            shutil.rmtree(VENV)
        _run([sys.executable, "-m", "venv", str(VENV)], log, "the virtual environment", _venv_hint())
    pip = [str(PYTHON), "-m", "pip", "--disable-pip-version-check", "install", "--no-input"]
    _run(
        [*pip, "--require-hashes", "--only-binary", ":all:", "-r", str(LOCK)],
        log,
        "the installation of the dependencies",
        "check the network and the package index that pip is set up for",
    )
    _say(f"installed in {time.monotonic() - began:.0f} s")


def _venv_hint() -> str:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return f"apt-get install python{version}-venv (Debian keeps venv in a package of its own)"


def _run(command: "list[str]", log: Path, what: str, hint: str) -> None:
    with log.open("ab") as output:
        done = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, cwd=ROOT, check=False)
    if done.returncode != 0:
        last = [line for line in log.read_text(errors="replace").splitlines() if line.strip()][-3:]
        _say("\n".join(["", *last]))
        _say(f"Error: {what} failed; all of it is in {log}\nTry: {hint}")
        sys.exit(1)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
