"""The frontend's builds, cached by a digest of their sources: the same sources are never built twice."""

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sidecar import OpsError
from stack.paths import STATE
from stack.process import Process
from stack.wait import wait_for
from stack.web.node import FOLDER as NODE
from stack.web.node import FRONTEND, provide, search_path, why_not

CACHE = STATE / "web"
SECONDS = 600.0
KEPT = 3
PACKAGES = ("package.json", "package-lock.json", ".npmrc")
SOURCES = (*PACKAGES, "angular.json", "tsconfig.json", "tsconfig.app.json", "scripts", "public", "src")
Say = Callable[[str], None]


def built() -> Path | None:
    """The folder with the build of the current sources, if there is one."""
    folder = CACHE / fingerprint(SOURCES)
    return folder if (folder / "index.html").exists() else None


def build(say: Say = lambda _: None, *, tidy: bool = False) -> Path:
    """The folder with the build of the current sources, built now if necessary.

    Args:
        tidy: remove the packages that were installed for it; they take three times the space of everything else.

    Raises:
        OpsError: Node.js is missing, or a step of the build failed.
    """
    found = built()
    if found is not None:
        return found
    provide(say)
    new = modules(say)
    try:
        with _locked("build"):
            return built() or _build(say)
    finally:
        if tidy and new:
            _stamp(FRONTEND).unlink(
                missing_ok=True
            )  # first: half of the packages must not look like all of them
            shutil.rmtree(FRONTEND / "node_modules", ignore_errors=True)
            shutil.rmtree(NODE, ignore_errors=True)
            why_not.cache_clear()


def modules(say: Say = lambda _: None, folder: Path = FRONTEND) -> bool:
    """Install the locked packages into a folder, the frontend's, unless they are installed; returns whether it did.

    Raises:
        OpsError: Node.js is missing, or npm failed.
    """
    reason = why_not()
    if reason is not None:
        message, _, hint = reason.partition("; ")
        raise OpsError(f"{folder.name} needs {message}", hint=hint)
    # In the folder that it describes, so that both are removed together.
    stamp = _stamp(folder)
    wanted = fingerprint(PACKAGES, folder)
    with _locked("modules"):
        if not stamp.exists() or stamp.read_text() != wanted:
            say(f"installing the packages of {folder.name} (half a minute, first run only)")
            _run(
                ["nice", "npm", "ci", "--no-audit", "--no-fund"],
                "npm ci",
                "check the network and the registry that npm is configured for",
                folder,
            )
            stamp.write_text(wanted)
            return True
    return False


def _stamp(folder: Path) -> Path:
    """Says which packages are installed."""
    return folder / "node_modules" / ".posthub-ops"


def fingerprint(names: Sequence[str], folder: Path | None = None) -> str:
    """A digest of a folder's files and folders without the tests; by default, of the frontend's."""
    folder = folder or FRONTEND
    digest = hashlib.sha256()
    for path in sorted(_files(names, folder)):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{path.relative_to(folder)} {content}\n".encode())
    return digest.hexdigest()[:16]


def _files(names: Sequence[str], folder: Path) -> Iterator[Path]:
    for name in names:
        path = folder / name
        found = path.rglob("*") if path.is_dir() else [path]
        yield from (path for path in found if path.is_file() and not path.name.endswith(".spec.ts"))


def _build(say: Say) -> Path:
    say("building the web frontend (half a minute, first run only)")
    folder = CACHE / fingerprint(SOURCES)
    draft = CACHE / f"draft-{os.getpid()}"
    try:
        _run(
            ["nice", "node_modules/.bin/ng", "build", "--output-path", str(draft)],
            "ng build",
            "read its output",
        )
        _run(["node", "scripts/compress.mjs", str(draft / "browser")], "compressing", "read its output")
        shutil.rmtree(folder, ignore_errors=True)
        (draft / "browser").rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    _forget_old()
    return folder


def _forget_old() -> None:
    builds = [folder for folder in CACHE.iterdir() if (folder / "index.html").exists()]
    for folder in sorted(builds, key=lambda build: build.stat().st_mtime, reverse=True)[KEPT:]:
        shutil.rmtree(folder, ignore_errors=True)


def _run(command: Sequence[str], name: str, hint: str, folder: Path = FRONTEND) -> None:
    # One log per step: npm may run for one process while another one builds.
    log = CACHE / f"{name.replace(' ', '-')}.log"
    environment = {
        **os.environ,
        "PATH": search_path(),
        "NG_CLI_ANALYTICS": "false",
        "NO_COLOR": "1",
        "CI": "1",
    }
    log.unlink(missing_ok=True)
    child = Process(name, command, log=log, env=environment, cwd=folder)
    try:
        wait_for(lambda: not child.running, timeout=SECONDS, what=f"the end of {name}", hint=f"read {log}")
    finally:
        child.stop()
    if child.exit_code != 0:
        tail = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:])
        raise OpsError(f"{name} failed:\n{tail}", hint=f"{hint}; the full output is in {log}")


@contextmanager
def _locked(name: str) -> Iterator[None]:
    """If two builds run at once, the second one waits and uses the result of the first."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{name}.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
