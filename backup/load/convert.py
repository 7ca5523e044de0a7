"""Converts a dump in another format into an archive: a throwaway server loads it, and is then dumped."""

from collections.abc import Iterable
from pathlib import Path

from backup.cancellation import Check
from backup.catalogue.manifest import Server
from backup.confinement import Confinement
from backup.errors import DumpError
from backup.load import script
from backup.load.execution import carry_out
from backup.load.pg_restore import load_archive
from backup.load.throwaway import cluster, server_options
from backup.pipeline.child import run_child
from backup.postgres.children import child_access
from backup.postgres.databases import databases
from backup.postgres.dsn import Address
from backup.programs import Programs
from backup.wiring import Wiring

DATABASE = "imported"


def convert(
    wiring: Wiring,
    file: Path,
    superuser: str,
    roles: Iterable[bytes],
    schemas: Iterable[bytes],
    like: Server,
    archive: Path,
    *,
    is_script: bool,
) -> script.Loaded:
    """Write an archive.

    Args:
        file: a script, or an archive in any form that ``pg_restore`` reads.
        superuser: owns what the dump gives no owner.
        roles: statements that make the other roles which the dump names.
        schemas: statements that make the schemas which it lacks.
        like: the original, as far as the dump states its encoding and locale.

    Raises:
        DumpError: PostgreSQL refuses a part of it.
    """
    programs, check = wiring.programs, wiring.stop.check
    options = server_options(wiring.settings.verify_options)
    parent, loaded = wiring.settings.work_dir, script.Loaded()
    with cluster(programs, superuser=superuser, parent=parent, check=check, options=options) as own:
        database = own.address.named(DATABASE)
        refused = carry_out(own.address, "globals", roles, check)
        with databases(database) as server:
            server.create(DATABASE, like)
        refused += carry_out(database, "schemas", schemas, check)
        if is_script:
            loaded = script.load_script(file, database, check)
        else:
            refused += load_archive(programs, database, file.resolve(), 1, check)
        if refused:
            raise DumpError(
                f"{file} cannot be restored here: {refused[0].found}",
                hint="if something is missing, such as an extension, install it",
            )
        _dump(programs, database, archive, check)
    return loaded


def _dump(programs: Programs, database: Address, archive: Path, check: Check) -> None:
    command = [
        programs.path("pg_dump"),
        "--format=custom",
        "--compress=0",
        "--no-password",
        f"--file={archive}",
        f"--dbname={database.conninfo}",
    ]
    confinement = Confinement(archive.parent).connecting(database.public)
    with child_access(database) as (env, fds):
        ended = run_child(command, env=env, pass_fds=fds, confinement=confinement, check=check)
    if ended.status != 0:
        raise DumpError(f"pg_dump failed: {' '.join(ended.errors[-3:])}", hint="read its message")
