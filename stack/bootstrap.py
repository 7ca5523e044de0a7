"""Creates the virtual environment from a lock file, then starts the command line. Standard library only.

It runs before anything is installed, with the machine's own Python. The demo does not get the developers' tools. pip
installs only uv, which installs the rest in a fraction of the time; if uv fails, pip installs everything.
"""

import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NoReturn

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
LOCKS = ROOT / "locks"
PYTHON = VENV / "bin" / "python"
UV = VENV / "bin" / "uv"
LOCKED = ("--require-hashes", "--only-binary", ":all:", "-r")
_PIP_TO_UV = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "trusted-host": "UV_INSECURE_HOST",
    "cert": "SSL_CERT_FILE",
    "proxy": "HTTPS_PROXY",
}
STAMP = VENV / "installed"
MODULE = "stack"
# The PG* variables of the caller's shell name a different database. And without stored bytecode, as in many containers,
# hundreds of processes would compile the same modules.
NOT_INHERITED = ("PG", "PYTHONDONTWRITEBYTECODE")
STOP_SECONDS = 10.0
TICK_SECONDS = 0.2
_SIGNALS: "list[int]" = []


def main() -> None:
    """Install what is missing, then become ``python -m stack``."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup ignores SIGHUP
            signal.signal(number, lambda number, _: _SIGNALS.append(number))
    try:
        _ensure()
    except OSError as error:
        _fail(f"{error.strerror}: {error.filename}", f"make {ROOT} a folder that you can write to")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(NOT_INHERITED)}
    # By default, matplotlib keeps its font cache in the home folder.
    environment = {
        **inherited,
        "PYTHONPATH": str(ROOT),
        "VIRTUAL_ENV": str(VENV),
        "MPLCONFIGDIR": str(ROOT / ".ops/matplotlib"),
    }
    _leave_if_asked()
    os.execve(PYTHON, [str(PYTHON), "-m", MODULE, *sys.argv[1:]], environment)


def _ensure() -> None:
    verb = sys.argv[1] if len(sys.argv) > 1 else ""
    lock = LOCKS / ("demo.txt" if verb == "demo" else "dev.txt")
    wanted = _fingerprint(lock)
    # An environment with the tools has everything that the demo needs.
    enough = {wanted, _fingerprint(LOCKS / "dev.txt")}
    if _installed() in enough:
        return
    state = ROOT / ".ops"
    state.mkdir(exist_ok=True)
    with (state / "setup.lock").open("w") as handle:
        _wait_for_others(handle)  # another ./ops may have installed everything meanwhile
        if _installed() not in enough:
            _install(lock, state)
            STAMP.write_text(wanted)


def _wait_for_others(handle: IO[str]) -> None:
    """Take the lock; if another ./ops is installing, wait for it."""
    announced = False
    while not _is_ours(handle):
        if not announced:
            _say("another ./ops is installing into .venv; waiting for it")
        announced = True
        time.sleep(TICK_SECONDS)
        _leave_if_asked()


def _is_ours(handle: IO[str]) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _identity() -> str:
    """The interpreter and the path of the environment, which its scripts contain."""
    return f"{sys.version} {VENV}".replace("\n", " ")


def _fingerprint(lock: Path) -> str:
    """What must be installed: this lock, in this virtual environment."""
    return f"{_identity()}\n{hashlib.sha256(lock.read_bytes()).hexdigest()}"


def _installed() -> str:
    try:
        return STAMP.read_text() if PYTHON.exists() else ""
    except OSError:
        return ""


def _install(lock: Path, state: Path) -> None:
    began, log = time.monotonic(), state / "setup.log"
    _say("installing the locked dependencies into .venv (about half a minute, first run only)")
    with _programs_meanwhile(state):
        _install_into(lock, state, log)
    _say(f"installed in {time.monotonic() - began:.0f} s")


@contextmanager
def _programs_meanwhile(state: Path) -> "Iterator[None]":
    """Fetch the servers' Debian packages in the background: the installation runs while they download.

    If it fails, whatever needs a program fetches it later and reports the reason.
    """
    with (state / "programs.log").open("wb") as output:
        child = subprocess.Popen(
            [sys.executable, "-m", f"{MODULE}.programs"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
    try:
        yield
        if child.poll() is None:
            _say("fetching the servers' programs")
        _wait(child)
    finally:
        _end(child)


def _install_into(lock: Path, state: Path, log: Path) -> None:
    if _installed().partition("\n")[0] != _identity():
        if VENV.is_dir() and not VENV.is_symlink():
            shutil.rmtree(VENV)
        _run([sys.executable, "-m", "venv", str(VENV)], log, "the virtual environment", _venv_hint())
    what = "the installation of the dependencies"
    hint = "check the network and the package index that pip is configured for"
    pip = [str(PYTHON), "-m", "pip", "--disable-pip-version-check", "install", "--no-input", *LOCKED]
    _run([*pip, str(LOCKS / "uv.txt")], log, what, hint)
    if not _by_uv(lock, state, log):
        _run([*pip, str(lock)], log, what, hint)


def _by_uv(lock: Path, state: Path, log: Path) -> bool:
    """Whether uv installed everything. Its cache is in this folder, and only during the installation."""
    cache = state / "uv"
    environment = {**os.environ, **_as_pip(), "UV_CACHE_DIR": str(cache), "UV_NO_CONFIG": "1"}
    command = [str(UV), "pip", "install", "--python", str(PYTHON), *LOCKED, str(lock)]
    try:
        return _finished(command, log, environment) == 0
    except OSError as error:
        _say(f"uv does not start ({error.strerror}); using pip instead")
        return False
    finally:
        shutil.rmtree(cache, ignore_errors=True)


def _as_pip() -> "dict[str, str]":
    """What pip is configured for, as uv's variables. uv's own variables take precedence."""
    asked = [str(PYTHON), "-m", "pip", "config", "list"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    found = {}
    for line in done.stdout.splitlines():
        name, _, value = line.partition("=")
        variable = _PIP_TO_UV.get(name.rpartition(".")[2])
        if variable and variable not in os.environ:
            found[variable] = value.strip("'\"")
    return found


def _venv_hint() -> str:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return f"apt-get install python{version}-venv (Debian has venv in a separate package)"


def _run(command: "list[str]", log: Path, what: str, hint: str) -> None:
    if _finished(command, log) != 0:
        last = [line for line in log.read_text(errors="replace").splitlines() if line.strip()][-3:]
        _say("\n".join(["", *last]))
        _fail(f"{what} failed; the full output is in {log}", hint)


def _finished(command: "list[str]", log: Path, environment: "dict[str, str] | None" = None) -> int:
    """Run a command, and return its exit code."""
    with log.open("ab") as output:
        # In its own session: we handle Ctrl-C and stop everything that the command started.
        child = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            start_new_session=True,
            env=environment,
        )
    try:
        return _wait(child)
    finally:
        _end(child)


def _end(child: "subprocess.Popen[bytes]") -> None:
    """End the child and all its processes."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(child.pid, number)
            child.wait(STOP_SECONDS)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            pass


def _wait(child: "subprocess.Popen[bytes]") -> int:
    while True:
        try:
            return child.wait(TICK_SECONDS)
        except subprocess.TimeoutExpired:
            _leave_if_asked()


def _leave_if_asked() -> None:
    """Act on a signal that was received. Handlers only record it, so none can hit between a start and its bookkeeping."""
    if _SIGNALS:
        _say("Interrupted; run the same command again to resume")
        sys.exit(128 + _SIGNALS[0])


def _fail(what: str, hint: str) -> NoReturn:
    _say(f"Error: {what}\nTry: {hint}")
    sys.exit(1)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
