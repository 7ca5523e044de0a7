"""Fetches Debian packages and unpacks them into the project, without root and without installing anything."""

import fcntl
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sidecar import OpsError
from stack.programs.kits import Kit

LISTS_LAST_SECONDS = 24 * 3600
APT_SECONDS = 600
# Large or not needed here: 200 MB of time zone sources that the built file already contains, and documentation.
SURPLUS = ("usr/share/javascript/moment-timezone/data", "usr/share/doc", "usr/share/man", "usr/share/lintian")
WRAPPER = """#!/bin/sh
root=$(dirname "$(dirname "$(readlink -f "$0")")")/debian
libraries=$root/usr/lib/$(ls "$root/usr/lib" | grep -m1 linux-gnu)
export LD_LIBRARY_PATH="$libraries${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}"
{open_data}exec "$root/{path}" "$@"
"""


# A compiled-in data path is replaced by a file descriptor path, which the wrapper opens under this number. The
# new path is shorter than any below /usr/share; trailing slashes pad it to the same length.
DATA_DESCRIPTOR = 9
DATA_PATH = f"/proc/self/fd/{DATA_DESCRIPTOR}"


def available() -> bool:
    """Whether this machine has Debian's package tools."""
    return all(shutil.which(tool) for tool in ("apt-get", "dpkg"))


def install(kits: Sequence[Kit], folder: Path) -> None:
    """Fetch the packages of kits, unpack them below ``folder/debian`` and put a wrapper per program into ``folder/bin``.

    Safe to run twice at once. Raises OpsError when the packages cannot be fetched.
    """
    with _locked(folder):
        absent = [kit for kit in kits if not is_installed(kit, folder)]
        if not absent:
            return
        packages = [name for kit in absent for name in kit.packages]
        _update(folder, packages)
        _download([*packages, *_known([name for kit in absent for name in kit.optional], folder)], folder)
        for kit in absent:
            for name, path in kit.programs.items():
                if kit.data is not None:
                    _relocate(folder / "debian" / path, kit.data)
                _wrap(folder, name, path, kit.data)


def is_installed(kit: Kit, folder: Path) -> bool:
    """Whether there is a wrapper of every program, which opens the kit's data folder if it has one."""
    wrappers = [folder / "bin" / name for name in kit.programs]
    return all(path.exists() and (kit.data or "") in path.read_text(encoding="utf-8") for path in wrappers)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _update(folder: Path, wanted: Sequence[str]) -> None:
    stamp = folder / "apt" / "updated"
    if stamp.exists() and time.time() - stamp.stat().st_mtime < LISTS_LAST_SECONDS:
        return
    (folder / "apt/lists/partial").mkdir(parents=True, exist_ok=True)
    (folder / "apt/cache/archives/partial").mkdir(parents=True, exist_ok=True)
    _apt(folder, ["update"], wanted, cwd=folder, doing="update the list of Debian packages")
    stamp.touch()


def _download(packages: Sequence[str], folder: Path) -> None:
    incoming = folder / "incoming"
    shutil.rmtree(incoming, ignore_errors=True)
    incoming.mkdir()
    _apt(folder, ["download", *packages], packages, cwd=incoming, doing=f"download {' '.join(packages)}")
    for package in sorted(incoming.glob("*.deb")):
        subprocess.run(["dpkg", "-x", str(package), str(folder / "debian")], check=True)
    shutil.rmtree(incoming)
    for path in SURPLUS:
        shutil.rmtree(folder / "debian" / path, ignore_errors=True)


def _known(packages: Sequence[str], folder: Path) -> list[str]:
    """Those of the packages that this release of Debian has."""
    if not packages:
        return []
    # One call: each of them reads the whole list.
    show = ["apt-cache", *_options(folder), "show", "--no-all-versions", *packages]
    done = subprocess.run(
        show, capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C"}
    )
    found = {
        line.removeprefix("Package: ") for line in done.stdout.splitlines() if line.startswith("Package: ")
    }
    return [name for name in packages if name in found]


def _options(folder: Path) -> list[str]:
    """Options that make apt work in the folder, as an ordinary user."""
    state = {
        "Dir::State::Lists": folder / "apt/lists",
        "Dir::Cache": folder / "apt/cache",
        # Descriptions and the catalogue of desktop programs: 7 MB that nothing here reads.
        "Acquire::Languages": "none",
        "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled": "false",
        # apt run by root switches to the user _apt, who may not write here.
        "APT::Sandbox::User": "root",
        "APT::Update::Error-Mode": "any",
    }
    return [word for name, value in state.items() for word in ("-o", f"{name}={value}")]


def _apt(folder: Path, arguments: Sequence[str], wanted: Sequence[str], *, cwd: Path, doing: str) -> None:
    try:
        done = subprocess.run(
            ["apt-get", "-q", *_options(folder), *arguments],
            cwd=cwd,
            capture_output=True,
            text=True,
            timeout=APT_SECONDS,
            check=False,
            env={**os.environ, "LC_ALL": "C"},
        )
    except subprocess.TimeoutExpired:
        raise OpsError(f"could not {doing} within {APT_SECONDS} s", hint="check the network") from None
    if done.returncode != 0:
        reason = next(
            (line for line in done.stderr.splitlines() if line.startswith("E:")), done.stderr[-300:]
        )
        raise OpsError(
            f"could not {doing}: {reason.strip()}",
            hint=f"check the network, or install it yourself: apt-get install {' '.join(wanted)}",
        )


def _relocate(program: Path, data: str) -> None:
    """Point a program to its data folder in the project instead of its place in an installed package."""
    old, new = data.encode(), DATA_PATH.ljust(len(data), "/").encode()
    draft = program.with_name(f"{program.name}.new")
    draft.write_bytes(program.read_bytes().replace(old, new))
    draft.chmod(0o755)
    # A running program cannot be overwritten, but its file can be replaced.
    draft.rename(program)


def _wrap(folder: Path, name: str, path: str, data: str | None) -> None:
    wrapper = folder / "bin" / name
    wrapper.parent.mkdir(exist_ok=True)
    draft = wrapper.with_suffix(".new")
    open_data = f'[ -d "$root{data}" ] && exec {DATA_DESCRIPTOR}<"$root{data}"\n' if data else ""
    draft.write_text(WRAPPER.format(path=path, open_data=open_data))
    draft.chmod(0o755)
    draft.rename(wrapper)
