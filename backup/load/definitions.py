"""Creates the definitions of an archive in one transaction, on a server that nothing else uses.

``pg_restore`` waits for the response to each statement and commits each separately, which takes longer than the statements
when there are thousands of tables. One transaction holds a lock of each table until its end, so no other server gets it.
"""

import logging
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path
from tempfile import NamedTemporaryFile

import psycopg

from backup.cancellation import Check, also, carry
from backup.confinement import Confinement
from backup.errors import DumpError
from backup.load.execution import runner, without_values
from backup.pipeline.child import run_child
from backup.postgres.dsn import Address
from backup.postgres.session import text_of
from backup.programs import Programs, clean_environment

log = logging.getLogger(__name__)

_FALLBACK = "definitions were not created in one transaction, so pg_restore creates them"
# The server parses all statements of a message before it carries out the first. That takes fifty times the memory of the text.
AT_ONCE = 1 << 20
_BETWEEN = b";\n\n\n--\n-- Name: "
_RESTRICT = b"\n\\restrict "


def create_at_once(
    programs: Programs, address: Address, archive: Path, chosen: Sequence[str], check: Check
) -> bool:
    """Create what some options of ``pg_restore`` choose, in one transaction.

    Returns:
        Whether it was created. If the server refuses a statement, nothing was: then ``pg_restore`` creates what can be
        created, and its errors count.
    """
    script = _script(programs, archive, chosen, check)
    if script is None:
        log.info("%s: the program did not print them", _FALLBACK)
        return False
    try:
        with runner(address, check) as running, running.connection.transaction():
            for text in messages(without_commands(script)):
                running.wait(lambda text=text: running.connection.execute(text))  # type: ignore[misc]  # mypy cannot infer the lambda
    except (DumpError, psycopg.Error) as error:
        log.info("%s: %s", _FALLBACK, without_values(text_of(error)))
        return False
    return True


def _script(programs: Programs, archive: Path, chosen: Sequence[str], check: Check) -> bytes | None:
    """What some options of ``pg_restore`` choose, as text; None if it cannot be read.

    It goes through a file: each piece of a pipe would wait for the interpreter, which the thread that reads the archive
    at a low priority may be using.
    """
    with NamedTemporaryFile(dir=archive.parent, prefix="definitions-") as file:
        command = [
            programs.path("pg_restore"),
            *chosen,
            "--no-tablespaces",
            f"--file={file.name}",
            str(archive),
        ]
        confinement = Confinement(archive.parent)
        ended = run_child(command, env=clean_environment(), confinement=confinement, check=check)
        return file.read() if ended.status == 0 else None


def create_lanes(
    programs: Programs, address: Address, archive: Path, lanes: Sequence[Sequence[str]], check: Check
) -> list[bool]:
    """Create several lanes at the same time, each in its own transaction; returns for each lane whether it was created.

    Args:
        lanes: what the options of ``pg_restore`` choose. No lane needs another one.
    """
    failed = threading.Event()
    either = also(check, failed, "the other session failed, or a signal arrived")
    with ThreadPoolExecutor(len(lanes), thread_name_prefix="lane") as pool:
        create = carry(create_at_once, over=failed.is_set)
        try:
            futures = [pool.submit(create, programs, address, archive, lane, either) for lane in lanes]
            for each in wait(futures, return_when=FIRST_EXCEPTION).done:
                each.result()
            return [each.result() for each in futures]
        except BaseException:
            failed.set()
            raise


def without_commands(script: bytes) -> bytes:
    """A script without ``\\restrict`` and ``\\unrestrict``, psql's own commands, which are lines with a random key."""
    begin = script.find(_RESTRICT)
    if begin < 0:
        return script
    key = script[begin + len(_RESTRICT) : script.index(b"\n", begin + len(_RESTRICT))]
    return script.replace(b"\\restrict %s\n" % key, b"").replace(b"\\unrestrict %s\n" % key, b"")


def messages(script: bytes) -> Iterator[bytes]:
    """A script in parts of about a megabyte, each of whole statements.

    Text inside a string may look like the end of a statement. The server refuses a part that was cut there, because its
    string is not closed.
    """
    begin = 0
    while begin < len(script):
        place = script.find(_BETWEEN, begin + AT_ONCE) if begin + AT_ONCE < len(script) else -1
        end = place + 1 if place >= 0 else len(script)
        yield script[begin:end]
        begin = end
