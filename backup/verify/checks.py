"""The users' own checks of a restored database: SQL queries and a command."""

import shlex
import shutil
import sys
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from urllib.parse import quote

import psycopg

from backup.cancellation import never
from backup.catalogue.records import Difference
from backup.confinement import Confinement
from backup.errors import OURS, VerificationError
from backup.hooks import shown, unstartable
from backup.pipeline.child import run_child
from backup.postgres.children import child_access
from backup.postgres.dsn import Address
from backup.postgres.session import OWN_PATH, connect
from sidecar import OpsError
from sidecar.humanize import counted

SECONDS = 600
EXCERPT = 300


def usable(folder: Path | None, command: str | None) -> str:
    """Refuse checks that cannot be run, before anything is restored: their failure would say nothing about the backup.

    Returns:
        What will be run, in words.

    Raises:
        VerificationError: the folder or a query cannot be read, or the command cannot be started.
    """
    found = []
    if folder is not None:
        queries = [_query(file) for file in _files(folder)]
        found.append(f"{counted(len(queries), 'SQL file')} in {folder}")
    if command is not None:
        if problem := unstartable(command):
            raise VerificationError(
                f"BACKUP_VERIFY_COMMAND: {problem}", hint="check its path and its first line"
            )
        found.append(command)
    return ", ".join(found)


def sql_checks(folder: Path, address: Address) -> Iterator[Difference]:
    """Run each ``*.sql`` file of a folder as a query. Its first value must be true.

    Raises:
        VerificationError: the folder cannot be read.
    """
    for file in _files(folder):
        found = _first_value(address, _query(file))
        if found != "true":
            yield Difference(kind="check", object=file.name, expected="true", found=found)


def command_check(
    command: str,
    address: Address,
    folder: Path,
    check: Callable[[], None] = never,
    secrets: Collection[str] = (),
) -> Iterator[Difference]:
    """Run a command with ``DATABASE_URL`` set to the restored database. It must exit with 0.

    It is confined: it can read programs, libraries, the working directory and the files named in its arguments,
    write to ``folder``, and reach the network only if the database is remote.

    Args:
        secrets: what the report may not contain; the password of the database is one of them.
    """
    words = shlex.split(command)
    deadline = time.monotonic() + SECONDS
    confinement = Confinement(folder, _readable(words)).connecting(address.public)
    hidden = [*secrets, address.password or ""]

    def stop() -> None:
        check()
        if time.monotonic() > deadline:
            raise _TooLongError(f"it took longer than {SECONDS} s", hint="check what it waits for")

    def difference(found: str) -> Difference:
        return Difference(kind="check", object=command, expected="exit code 0", found=found)

    with child_access(address) as (env, fds):
        environment = {**env, "DATABASE_URL": url(address)}
        try:
            program = shutil.which(words[0]) or words[0]
            result = run_child(
                [program, *words[1:]],
                env=environment,
                pass_fds=fds,
                confinement=confinement,
                output=True,
                check=stop,
            )
        except (OSError, _TooLongError) as error:
            yield difference(_short(str(error)))
            return
    if result.status < 0:
        raise VerificationError(f"{command} was killed by signal {-result.status}", hint=OURS)
    if result.status != 0:
        yield difference(f"exit code {result.status}: {_short(shown(result.errors, hidden))}")


class _TooLongError(OpsError):
    """The command exceeded its time limit."""


def _readable(words: list[str]) -> tuple[Path, ...]:
    """What a command may read in addition to programs and libraries: our interpreter, the working directory and its files."""
    named = [Path(word).resolve() for word in words if "/" in word and Path(word).exists()]
    folders = [path.parent if path.is_file() else path for path in named]
    readable = (Path(sys.prefix), Path(sys.base_prefix), Path.cwd(), *folders)
    return tuple(path for path in readable if path != Path("/"))


def url(address: Address) -> str:
    """An address as a URL for Django's settings; socket paths are percent-encoded."""
    public = address.public
    login = quote(public.get("user", ""), safe="")
    login += f":{quote(address.password, safe='')}" if address.password else ""
    host = quote(public.get("host", ""), safe="")
    port = f":{public['port']}" if "port" in public else ""
    return f"postgresql://{login}@{host}{port}/{quote(address.database, safe='')}"


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise VerificationError(
            f"BACKUP_VERIFY_CHECKS_DIR={folder} is not a folder",
            hint="mount the folder with the *.sql files there",
        )
    return sorted(folder.glob("*.sql"))


def _query(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise VerificationError(
            f"{file} cannot be read: {error}", hint="make it a readable file in UTF-8"
        ) from None


def _first_value(address: Address, query: str) -> str:
    limits = {"statement_timeout": f"{SECONDS}s", "default_transaction_read_only": "on"}
    connection = connect(address, application="posthub-backup-check", changes={**OWN_PATH, **limits})
    try:
        row = connection.execute(query.encode()).fetchone()
    except psycopg.Error as error:
        return _short(str(error))
    finally:
        connection.close()
    if row is None:
        return "no row"
    return "true" if row[0] is True else _short(str(row[0]))


def _short(text: str) -> str:
    return " ".join(text.split())[-EXCERPT:]
