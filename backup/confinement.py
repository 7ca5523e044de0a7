"""Limits for programs that touch restored content. Such content is code that others wrote.

PostgreSQL evaluates constraints, generated columns and indexes while it restores, as the superuser of the server that it
restores into, and that superuser may run programs and read files. So everything that touches restored content is confined
by the kernel (:mod:`backup.landlock`): it reads programs and libraries, writes into one private folder, and has no network.
If the kernel cannot do that, work continues, and :func:`strength` reports it.
"""

import ctypes
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from backup import landlock
from backup.programs import Programs
from sidecar import OpsError

_PR_SET_DUMPABLE = 4
# Where systems have programs, libraries and the files that these read when they start.
_SYSTEM = (
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/etc/alternatives",
    "/etc/group",
    "/etc/host.conf",
    "/etc/hosts",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/ld.so.preload",
    "/etc/locale.alias",
    "/etc/localtime",
    "/etc/nsswitch.conf",
    "/etc/passwd",
    "/etc/pki/tls/certs",
    "/etc/postgresql-common",
    "/etc/resolv.conf",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
    "/etc/timezone",
    "/dev/random",
    "/dev/urandom",
    "/dev/zero",
)
# Folders next to a folder of programs that belong to them. Not its whole parent, which may be a home directory.
_NEXT_TO_PROGRAMS = ("lib", "lib64", "libexec", "share")
_DEVICES = ("/dev/null",)
_MAX_SCRIPT_BYTES = 1 << 16
_PATH = re.compile(r"(?<![\w.$}])/[\w@%+=:,./-]+")
# Files that libpq opens for a connection; passwords never come from one of them.
_CONNECTION_FILES = ("sslrootcert", "sslcert", "sslkey", "sslcrl", "sslcrldir")


@dataclass(frozen=True)
class Confinement:
    """The limits of one program.

    Attributes:
        folder: the one folder that it may write.
        readable: what it may read in addition to programs and libraries.
        network: whether it may open TCP connections, to reach a configured server.
    """

    folder: Path
    readable: tuple[Path, ...] = ()
    network: bool = False

    def connecting(self, public: Mapping[str, str]) -> "Confinement":
        """The same for a client: with the network unless its server is reached through a local socket.

        Args:
            public: connection parameters by libpq's names.
        """
        if public.get("host", "").startswith(("/", "@")):
            return self
        files = [Path(public[name]) for name in _CONNECTION_FILES if name in public]
        return Confinement(self.folder, (*self.readable, *files, Path.home() / ".postgresql"), network=True)

    def command(self, words: Sequence[str], environ: Mapping[str, str] = os.environ) -> list[str]:
        """The command that runs a program within these limits; the same command where the kernel has no Landlock.

        Args:
            words: path of the program, and its arguments.
            environ: the program's own environment; its library folders are readable too.
        """
        if not landlock.version():
            return list(words)
        readable = [*_SYSTEM, *_around(words[0]), *_library_path(environ), *map(str, self.readable)]
        return [
            sys.executable,
            "-I",
            "-S",
            landlock.__file__,
            *(["tcp"] if self.network else []),
            *(f"read={path}" for path in dict.fromkeys(readable)),
            *(f"write={path}" for path in (self.folder, *_DEVICES)),
            "--",
            *words,
        ]


@dataclass(frozen=True)
class Strength:
    """What this kernel can restrict.

    Attributes:
        version: its version of Landlock; 0 has none.
        lacking: descriptions of what it cannot restrict.
    """

    version: int
    lacking: tuple[str, ...]

    @property
    def confined(self) -> bool:
        return self.version > 0


def strength() -> Strength:
    """How strictly programs that touch restored content are confined here."""
    version = landlock.version()
    if not version:
        return Strength(0, ("files, TCP, signals",))
    newer = {"TCP": landlock.TCP_VERSION, "signals": landlock.SCOPE_VERSION}
    return Strength(version, tuple(what for what, since in newer.items() if version < since))


def was_refused(status: int, errors: Iterable[str]) -> bool:
    """Whether a program was not run, because the kernel has Landlock and refused these limits."""
    return status == landlock.NOT_CONFINED and any(line.startswith(landlock.REFUSED) for line in errors)


def hide_memory() -> None:
    """Close this process to others of the same user: no debugger, no core dump, no access to its environment in /proc."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


@cache
def _around(program: str) -> tuple[str, ...]:
    """What a program needs in addition to the system's folders: its own folder, those next to it, its libraries.

    The folder may hold links to programs that are elsewhere, and a program may be a script that starts another one.
    """
    folder = Path(program).parent
    if _in_system(folder) or not folder.is_dir():
        return ()
    links = {file.resolve() for file in folder.iterdir() if file.is_symlink()}
    programs, named = _with_named({Path(program), *links})
    folders = sorted({each.parent for each in programs} - {Path("/")})
    neighbours = [each.parent / name for each in folders for name in _NEXT_TO_PROGRAMS]
    neighbours += [path for each in folders for path in _built_in_folders(each)]
    libraries = _libraries_of(frozenset(map(str, programs)), _modules(neighbours))
    found = [*folders, *neighbours, *sorted(named), *map(Path, sorted(libraries))]
    return tuple(str(path) for path in dict.fromkeys(found) if not _in_system(path))


def _built_in_folders(folder: Path) -> Iterator[Path]:
    """Where PostgreSQL's programs in a folder look for their files and modules. That was set when they were built."""
    with suppress(OpsError):
        yield Programs(folder).extension_folder().parent
    if modules := _output(str(folder / "pg_config"), "--pkglibdir").strip():
        yield Path(modules)


def _with_named(programs: set[Path]) -> tuple[set[Path], set[Path]]:
    """The programs, those that they start if they are scripts, and all paths that these scripts name."""
    found: set[Path] = set()
    named: set[Path] = set()
    while programs:
        program = programs.pop()
        found.add(program)
        more = _named_by(program)
        named |= more
        programs |= {path for path in more if path.is_file() and os.access(path, os.X_OK)} - found
    return found, named


def _in_system(path: Path) -> bool:
    return any(path.is_relative_to(each) for each in ("/usr", "/bin", "/sbin", "/lib", "/lib64"))


def _named_by(program: Path) -> set[Path]:
    """The paths that a script names: absolute ones, and folders next to its own."""
    text = ""
    with suppress(OSError), program.open("rb") as file:
        text = file.read(_MAX_SCRIPT_BYTES).decode(errors="replace")
    if not text.startswith("#!"):
        return set()
    absolute = {Path(word) for word in _PATH.findall(text)}
    siblings = {each for each in program.parent.parent.iterdir() if f"/{each.name}" in text}
    home = {Path("/"), Path.home(), program.parent.parent}
    return {
        path for path in absolute | siblings if path.exists() and path not in home and not _in_system(path)
    }


def _modules(folders: Iterable[Path]) -> frozenset[str]:
    """The modules that a server loads while it runs; they may need libraries that the server's program does not."""
    return frozenset(str(module) for folder in folders for module in folder.glob("*.so"))


@cache
def _libraries_of(programs: frozenset[str], modules: frozenset[str]) -> tuple[str, ...]:
    """Folders of the shared libraries of programs and modules that bring their own."""
    compiled = sorted(program for program in programs if not _is_script(program))
    printed = _output("ldd", *compiled)
    if modules:
        printed += _loaded_with(_loader(printed), compiled, modules) or _output("ldd", *sorted(modules))
    return tuple(sorted({os.path.dirname(path) for path in re.findall(r"=> (/\S+)", printed)}))  # noqa: PTH120 - text


def _loader(printed: str) -> str:
    """The program that loads libraries, which ``ldd`` names without an arrow; empty if it names none."""
    found = re.search(r"^\s+(/\S+) \(", printed, re.MULTILINE)
    return found[1] if found else ""


def _is_script(program: str) -> bool:
    with suppress(OSError), open(program, "rb") as file:  # noqa: PTH123 - text
        return file.read(2) == b"#!"
    return False


def _loaded_with(loader: str, programs: Sequence[str], modules: Iterable[str]) -> str:
    """The output of ``ldd`` for the first program, with all modules at once. One call for each module takes ten times as long.

    Empty if the loader cannot do that (glibc can since 2.30), or a path has one of its separators.
    """
    if not loader or not programs or any(re.search(r"[\s:]", module) for module in modules):
        return ""
    return _output(loader, "--list", "--preload", ":".join(sorted(modules)), programs[0])


def _output(program: str, *arguments: str) -> str:
    """What a program prints; empty if it is missing or fails."""
    path = shutil.which(program)
    if path is None or not arguments:
        return ""
    return subprocess.run([path, *arguments], capture_output=True, text=True, check=False).stdout


def _library_path(environ: Mapping[str, str]) -> list[str]:
    return [path for path in environ.get("LD_LIBRARY_PATH", "").split(":") if path.startswith("/")]
