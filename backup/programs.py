"""Finds the programs of PostgreSQL and Redis, and their versions."""

import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from backup.errors import PreflightError
from sidecar.rootless import rootless

# Seconds for a program to print its version: on a network drive that is gone, it never does.
_SECONDS = 60.0
# Variables that child processes inherit, in addition to LC_*.
PASSED = frozenset(
    {"PATH", "HOME", "LANG", "LANGUAGE", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR"}
)

# Every setting that changes the text of a dump (pg_dump, ruleutils and the input and output functions of types read it), or
# that ends or refuses a statement. A database or a role may have its own values, and the dumps of original and copy must be
# equal.
PINNED = {
    # A database may have the setting too, and then no session has the privileges of the role that logs in.
    "role": "none",
    "bytea_output": "hex",
    "quote_all_identifiers": "off",
    "standard_conforming_strings": "on",
    "escape_string_warning": "off",
    "backslash_quote": "safe_encoding",
    "array_nulls": "on",
    "transform_null_equals": "off",
    "DateStyle": "ISO",
    "IntervalStyle": "postgres",
    "extra_float_digits": "3",
    "lc_monetary": "C",
    "xmlbinary": "base64",
    "xmloption": "content",
    "synchronize_seqscans": "off",
    "default_transaction_isolation": "read committed",
    "default_transaction_read_only": "off",
    "default_transaction_deferrable": "off",
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "client_min_messages": "notice",
}
# More settings, by the first version that has them. A lock must not outlive this process while the server works on our statement.
_SINCE = {
    "client_connection_check_interval": (140000, "5s"),
    "idle_session_timeout": (140000, "0"),
    "transaction_timeout": (170000, "0"),
}
# The same, of settings that only a superuser may set. A trigger of each login would add rows, or refuse us. Messages in
# another language are not recognized.
OF_SUPERUSERS = {"event_triggers": (170000, "off"), "lc_messages": (0, "C")}


def pinned(version: int, *, superuser: bool = False) -> dict[str, str]:
    """The settings that a server of a version (as in ``server_version_num``) knows, and that a role may set."""
    more = {**_SINCE, **(OF_SUPERUSERS if superuser else {})}
    return {**PINNED, **{name: value for name, (since, value) in more.items() if version >= since}}


def options(settings: Mapping[str, str]) -> str:
    """Settings as the options of a connection; those of the connection outrank those of its database and role."""
    escaped = {name: value.replace("\\", "\\\\").replace(" ", "\\ ") for name, value in settings.items()}
    return " ".join(f"-c {name}={value}" for name, value in escaped.items())


@dataclass(frozen=True)
class Programs:
    """A folder of programs.

    Attributes:
        folder: None: PATH.
        variable: the setting that names the folder.
        product: the product that the programs belong to.
    """

    folder: Path | None = None
    variable: str = "BACKUP_POSTGRES_BIN"
    product: str = "PostgreSQL"

    def path(self, name: str) -> str:
        """The path of a program.

        Raises:
            PreflightError: the program does not exist.
        """
        found = shutil.which(name, path=str(self.folder) if self.folder else None)
        if found is None:
            raise PreflightError(
                f"{name} is not in {self.folder or 'PATH'}",
                hint=f"install {self.product}'s client and server programs, or set {self.variable} to their folder",
            )
        return found

    def has(self, name: str) -> bool:
        """Whether a program is there."""
        return shutil.which(name, path=str(self.folder) if self.folder else None) is not None

    def version(self, name: str = "pg_dump") -> str:
        """The version that a program prints, such as ``18.1``."""
        done = _ran([self.path(name), "--version"])
        found = re.search(r"\d+(\.\d+)?\S*", done.stdout)
        if done.returncode != 0 or found is None:
            raise PreflightError(
                f"{name} --version failed: {done.stderr.strip()}", hint=f"run {self.path(name)} --version"
            )
        return found.group()

    def major(self, name: str = "pg_dump") -> int:
        return major_of(self.version(name))

    def extension_folder(self) -> Path:
        """The folder with the control files of PostgreSQL's extensions."""
        command = rootless([self.path("initdb"), "--show", "--pgdata=/nonexistent"])
        done = _ran(command)
        found = re.search(r"^share_path=(.+)$", done.stdout + done.stderr, re.MULTILINE)
        if found is None:
            raise PreflightError(
                f"initdb --show failed: {done.stderr.strip()[-300:]}", hint=f"run {command[-3]} --show"
            )
        return Path(found[1]) / "extension"

    def library_folder(self) -> Path | None:
        """The folder with the libraries of PostgreSQL's extensions; None if it is in no usual place."""
        shared = self.extension_folder().parent
        before, _, after = str(shared).rpartition("/share")
        usual = Path(f"{before}/lib{after}")
        return next((each for each in (usual, usual / "lib") if (each / "plpgsql.so").exists()), None)


def major_of(version: str) -> int:
    """The major version of PostgreSQL in a version such as ``18.1`` or ``19beta1``."""
    found = re.match(r"\d+", version)
    assert found is not None
    return int(found.group())


def _ran(command: Sequence[str]) -> "subprocess.CompletedProcess[str]":
    try:
        return subprocess.run(
            command, capture_output=True, text=True, check=False, env=clean_environment(), timeout=_SECONDS
        )
    except subprocess.TimeoutExpired:
        raise PreflightError(
            f"{command[0]} printed nothing within {_SECONDS:.0f} s", hint="check the disk that it is on"
        ) from None


def clean_environment() -> dict[str, str]:
    """The environment for child processes: only what programs need, and messages in English.

    What is not listed may be a secret. Settings are pinned, because a database or role may have its own: see :data:`PINNED`.
    """
    kept = {name: value for name, value in os.environ.items() if name in PASSED or name.startswith("LC_")}
    pinned = {"PGTZ": "UTC", "PGOPTIONS": options(PINNED)}
    return {**kept, **pinned, "LC_ALL": "C", "TZ": "UTC", "PGCONNECT_TIMEOUT": "15"}
