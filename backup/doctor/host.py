"""Checks of this host: programs, user, folders, and the user's own commands."""

import os
import pwd
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

from backup.doctor.check import Check, Shared, carried_out
from backup.errors import VerificationError
from backup.hooks import AFTER, BEFORE, unstartable
from backup.load.space import room
from backup.load.throwaway import cluster, find_files, server_options
from backup.run import SPOOL_MARGIN
from backup.targets import PostgresTarget, Target
from backup.verify.checks import usable
from backup.verify.provable import ARCHIVE_FACTOR, CLIENT_PROGRAMS, SERVER_PROGRAMS, SPACE_FACTOR, too_long
from backup.wiring import Wiring
from sidecar import OpsError
from sidecar.humanize import size
from sidecar.rootless import SEEMING_ID


def program_checks(wiring: Wiring) -> Iterator[Check]:
    """PostgreSQL's programs, and what they need to start a throwaway server."""
    yield carried_out("programs", lambda: _programs(wiring))
    if wiring.settings.verify_url is None:
        yield carried_out("user", _user)
        if wiring.settings.verify_options:
            yield carried_out("BACKUP_VERIFY_OPTIONS", lambda: _options(wiring))


def _programs(wiring: Wiring) -> str | Check:
    here = wiring.settings.verify_url is None
    versions = {
        name: wiring.programs.version(name) for name in (SERVER_PROGRAMS if here else CLIENT_PROGRAMS)
    }
    if len({version.split(".")[0] for version in versions.values()}) > 1:
        versions_found = ", ".join(f"{name} {version}" for name, version in versions.items())
        return Check(
            "programs",
            False,
            f"different major versions: {versions_found}",
            "set BACKUP_POSTGRES_BIN to one folder",
        )
    if not here:
        return f"PostgreSQL {versions['pg_dump']}, client; backups are verified on the server of BACKUP_VERIFY_URL"
    find_files(wiring.programs, wiring.settings.work_dir)
    return f"PostgreSQL {versions['pg_dump']}, client and server"


def _user() -> str | Check:
    """Whether this process's user has a name: initdb refuses a user without one."""
    number = os.geteuid() or SEEMING_ID
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return Check(
            "user",
            False,
            f"the user ID {number} has no name in /etc/passwd: nothing can be verified here",
            "run as a user that exists; see docs/kubernetes.md",
        )


def _options(wiring: Wiring) -> str | Check:
    """Whether a throwaway server starts with the settings that it is given."""
    settings = wiring.settings
    options = server_options(settings.verify_options)
    try:
        with cluster(wiring.programs, superuser="postgres", parent=settings.work_dir, options=options):
            return f"a throwaway server starts with {', '.join(options)}"
    except VerificationError as error:
        return Check("BACKUP_VERIFY_OPTIONS", False, error.message, "correct BACKUP_VERIFY_OPTIONS")


def command_checks(wiring: Wiring) -> Iterator[Check]:
    """The user's own commands and checks."""
    settings = wiring.settings
    for variable, command in ((BEFORE, settings.before_command), (AFTER, settings.after_command)):
        if command:
            yield carried_out(variable, partial(_hook, variable, command))
    if settings.verify_checks_dir is not None or settings.verify_command is not None:
        yield carried_out("checks", lambda: usable(settings.verify_checks_dir, settings.verify_command))


def _hook(variable: str, command: str) -> str | Check:
    if problem := unstartable(command):
        return Check(
            variable, False, problem, "check its path; a script begins with a line such as #!/bin/sh"
        )
    return command


def folder_checks(wiring: Wiring, known: Shared) -> Iterator[Check]:
    """The folders that a verification, a slow store and an unavailable store need."""
    yield carried_out("work folder", lambda: _work_folder(wiring, known))
    if any(isinstance(target, PostgresTarget) for target in wiring.targets):
        yield carried_out("snapshots", lambda: _snapshots(wiring))
    if wiring.settings.spool_dir:
        yield carried_out("spool", lambda: _spool(wiring, known))
    else:
        yield Check(
            "spool", None, "none: no backups are taken while the store is unavailable", "set BACKUP_SPOOL_DIR"
        )


def _work_folder(wiring: Wiring, known: Shared) -> str | Check:
    folder = wiring.settings.work_dir or Path(tempfile.gettempdir())
    with tempfile.TemporaryFile(dir=folder):
        pass
    if wiring.settings.verify_url is None and (found := next(too_long(folder), "")):
        return Check("work folder", False, found, "set BACKUP_WORK_DIR to a folder with a shorter path")
    needed = max((_to_verify(wiring, target, known) for target in wiring.everything), default=0)
    fix = "set BACKUP_WORK_DIR to a folder with more room; BACKUP_WORK_DIR_FLOOR is the share that must stay free"
    free = max(room(folder, wiring.settings.work_dir_floor), 0)
    found = f"{size(free)} may be used in {folder}"
    return (
        found
        if free > 0 and free >= needed
        else Check("work folder", False, f"{found}, {size(needed)} may be needed", fix)
    )


def _to_verify(wiring: Wiring, target: Target, known: Shared) -> int:
    """Bytes that a verification of a database's newest backup needs here; before there is one, by the size on its server."""
    there = isinstance(target, PostgresTarget) and wiring.settings.verify_url is not None
    with suppress(OpsError):  # the checks of the store report it
        if newest := wiring.reader().recent_manifests(target.name, 1):
            return int(newest[0].raw_bytes * (ARCHIVE_FACTOR if there else SPACE_FACTOR))
    # The uncompressed archive, and the database that is restored from it.
    return known.sizes.get(target.name, 0) * (1 if there else 2)


def _snapshots(wiring: Wiring) -> str | Check:
    """How long a run holds its snapshot if the store is slow. An open snapshot delays vacuum."""
    folder = wiring.settings.work_dir
    if folder is not None and wiring.packing.recipients:
        return f"held while the dump runs; if the store is slow, encrypted parts wait in {folder}"
    return Check(
        "snapshots",
        None,
        "held until the store has the whole dump, even if the store is slow",
        "set BACKUP_AGE_RECIPIENTS and BACKUP_WORK_DIR, a folder with room for an encrypted backup",
    )


def _spool(wiring: Wiring, known: Shared) -> str | Check:
    folder = wiring.settings.spool_dir
    assert folder is not None
    folder.mkdir(parents=True, exist_ok=True)
    # The largest database must fit, by its size on the server. Those that did not answer are reported there.
    needed, free = int(max(known.sizes.values(), default=0) * SPOOL_MARGIN), shutil.disk_usage(folder).free
    found = f"{size(free)} free in {folder}"
    fix = "set BACKUP_SPOOL_DIR to a folder with more room; data that compresses well may still fit"
    return found if free >= needed else Check("spool", False, f"{found}, {size(needed)} may be needed", fix)
