"""Creates the definitions of an archive in one transaction, on a server that nothing else uses.

``pg_restore`` waits for an answer to each statement and commits each by itself, which takes longer than the statements
when there are thousands of tables. One transaction holds a lock of each table until its end, so no other server gets it.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import psycopg

from backup.cancellation import Check
from backup.confinement import Confinement
from backup.errors import DumpError
from backup.load.execution import runner
from backup.pipeline import ChildSource
from backup.postgres.dsn import Address
from backup.programs import Programs, clean_environment

# The server reads all statements of one message before it carries out the first, in fifty times their memory.
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
    command = [programs.path("pg_restore"), *chosen, "--no-tablespaces", "--file=-", str(archive)]
    hint = "run: python -m backup doctor"
    try:
        with ChildSource(
            command, env=clean_environment(), hint=hint, confinement=Confinement(archive.parent), check=check
        ) as source:
            script = b"".join(iter(source.read, b""))
        with runner(address, check) as running, running.connection.transaction():
            for text in messages(without_commands(script)):
                running.wait(lambda text=text: running.connection.execute(text))  # type: ignore[misc]
    except (DumpError, psycopg.Error):
        return False
    return True


def without_commands(script: bytes) -> bytes:
    """A script without the two commands to psql in it: lines with a key that occurs nowhere else."""
    begin = script.find(_RESTRICT)
    if begin < 0:
        return script
    key = script[begin + len(_RESTRICT) : script.index(b"\n", begin + len(_RESTRICT))]
    return script.replace(b"\\restrict %s\n" % key, b"").replace(b"\\unrestrict %s\n" % key, b"")


def messages(script: bytes) -> Iterator[bytes]:
    """A script in parts of about a megabyte, each of whole statements.

    A string may look like the end of a statement. Cut there, the statement is not closed, and the server refuses it.
    """
    begin = 0
    while begin < len(script):
        place = script.find(_BETWEEN, begin + AT_ONCE) if begin + AT_ONCE < len(script) else -1
        end = place + 1 if place >= 0 else len(script)
        yield script[begin:end]
        begin = end
