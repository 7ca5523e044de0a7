"""Checks of a PostgreSQL database, and of what this host needs to verify its backups."""

import re
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from backup.doctor.check import MAX_SKEW_SECONDS, Check, Shared
from backup.doctor.members import unrestorable
from backup.load.throwaway import server_options
from backup.physical.fitness import Finding, findings
from backup.physical.walsender import WalSender
from backup.postgres import inventory
from backup.postgres.dsn import Address
from backup.postgres.exclusion import resolve
from backup.postgres.preflight import preflight
from backup.postgres.session import session
from backup.postgres.snapshot import LOCK_SECONDS
from backup.targets import PostgresTarget, ServerTarget
from backup.verify import configured
from backup.verify.place import lacking
from backup.verify.provable import suspicions
from backup.wiring import Wiring
from sidecar.humanize import size

# A line of an extension's control file.
_DEFAULT_VERSION = re.compile(r"^\s*default_version\s*=\s*'([^']*)'", re.MULTILINE)


def checks(wiring: Wiring, target: PostgresTarget, known: Shared) -> Iterator[Check]:
    """A database that cannot be reached gets one result."""
    name = f"postgres {target.name}"
    asked = partial(known.asked, _server(target.address))
    reached = asked(name, lambda: _postgres(wiring, target, known))
    yield reached
    if reached.ok:
        yield asked(f"{name}: clock", lambda: _server_clock(target))
        if (given := configured.address_of(wiring.settings)) is None:
            yield asked(f"{name}: extensions", lambda: _extensions(wiring, target))
            yield asked(f"{name}: verification", lambda: _verifiable(wiring, target))
        else:
            yield known.asked(
                _server(given), f"{name}: verification", lambda: _verifiable_there(wiring, target, given)
            )
        yield asked(f"{name}: objects of extensions", lambda: _members(wiring, target))
        yield asked(f"{name}: left out", lambda: _left_out(wiring, target))
        yield asked(f"{name}: locks", lambda: _locks(wiring, target))
        yield asked(f"{name}: locked tables", lambda: _locked_tables(wiring, target))


def _postgres(wiring: Wiring, target: PostgresTarget, known: Shared) -> str:
    found = preflight(target.address, wiring.programs, wiring.exclusion)
    known.sizes[target.name] = found.size
    return f"server {found.server.version}, pg_dump {found.client}, {size(found.size)}, everything readable, no pooler"


def _server_clock(target: PostgresTarget) -> str | Check:
    with session(target.address) as connection:
        row = connection.execute("SELECT extract(epoch FROM clock_timestamp())::float8").fetchone()
    skew = abs(time.time() - (row[0] if row else 0.0))
    if skew > MAX_SKEW_SECONDS:
        name = f"postgres {target.name}: clock"
        return Check(name, False, f"{skew:.0f} s off from this host's clock", "synchronise the clocks (NTP)")
    return f"{skew:.1f} s off from this host's clock"


def _extensions(wiring: Wiring, target: PostgresTarget) -> str | Check:
    with session(target.address) as connection:
        versions = {extension.name: extension.version for extension in inventory.extensions(connection)}
    folder = wiring.programs.extension_folder()
    missing = [name for name in versions if not (folder / f"{name}.control").exists()]
    if missing:
        return Check(
            f"postgres {target.name}: extensions",
            False,
            f"missing here: {', '.join(missing)}; a backup could not be verified",
            f"install them into {folder}",
        )
    here = {name: _default_version(folder / f"{name}.control") for name in versions}
    other = [name for name, version in versions.items() if here[name] not in ("", version)]
    if other:
        return Check(
            f"postgres {target.name}: extensions",
            None,
            "; ".join(
                f"{name} has version {versions[name]} on the server and {here[name]} here" for name in other
            ),
            "use the same versions: a verification may not know types and functions of another one",
        )
    return ", ".join(versions)


def _default_version(control: Path) -> str:
    """The version that CREATE EXTENSION creates; empty if its file does not state one."""
    found = _DEFAULT_VERSION.search(control.read_text(encoding="utf-8", errors="replace"))
    return found[1] if found else ""


def _verifiable(wiring: Wiring, target: PostgresTarget) -> str | Check:
    """Whether this host has what a verification of the server's backups needs."""
    with session(target.address) as connection:
        server = inventory.server(connection)
        options = server_options(wiring.settings.verify_options)
        lacks = list(lacking(connection, server, wiring.programs, options))
    name = f"postgres {target.name}: verification"
    if found := list(suspicions(server, wiring.programs)):
        return Check(name, False, found[0], "update the sidecar's PostgreSQL programs")
    if lacks:
        return Check(name, False, "; ".join(what for what, _ in lacks), lacks[0][1])
    return "versions, locales, libraries and dictionaries are present"


def _verifiable_there(wiring: Wiring, target: PostgresTarget, given: Address) -> str | Check:
    """Whether the server of BACKUP_VERIFY_URL has what a verification needs."""
    with session(target.address) as connection:
        names = [extension.name for extension in inventory.extensions(connection)]
        owners, major = inventory.owners(connection), connection.info.server_version // 10000
    name = f"postgres {target.name}: verification"
    if lacks := list(configured.lacking(given, wiring.programs, names, owners)):
        return Check(name, False, "; ".join(what for what, _ in lacks), lacks[0][1])
    if (there := configured.major(given)) < major:
        detail = f"BACKUP_VERIFY_URL: PostgreSQL {there} runs there, and may refuse what only PostgreSQL {major} knows"
        return Check(name, None, detail, f"use a server of PostgreSQL {major}")
    return "BACKUP_VERIFY_URL: version, extensions and privileges suffice"


def _members(wiring: Wiring, target: PostgresTarget) -> str | Check:
    with session(target.address) as connection:
        found = unrestorable(connection, wiring)
    if not found:
        return "a restore can create what uses them"
    what, _, advice = found[0].rpartition(": ")
    name = f"postgres {target.name}: objects of extensions"
    return Check(name, False, "; ".join([what, *found[1:]]), advice)


def _left_out(wiring: Wiring, target: PostgresTarget) -> str | Check:
    with session(target.address) as connection:
        excluded = resolve(connection, wiring.exclusion)
        notes = [*excluded.notes(), *inventory.left_out(connection)]
    notes += [f"no table matches {pattern}" for pattern in excluded.unmatched]
    if not notes:
        return "nothing"
    return Check(f"postgres {target.name}: left out", None, "; ".join(notes), "see docs/backup.md")


def _locks(wiring: Wiring, target: PostgresTarget) -> str | Check:
    with session(target.address) as connection:
        missing = inventory.locks_to_set(connection, wiring.programs.major("pg_dump"))
    if missing is None:
        return "the server has room for the locks of a dump"
    needed, room, setting = missing
    return Check(
        f"postgres {target.name}: locks",
        None,
        f"a dump takes about {needed}, the server has room for about {room}",
        f"ALTER SYSTEM SET max_locks_per_transaction = {setting}; and restart it",
    )


def _locked_tables(wiring: Wiring, target: PostgresTarget) -> str | Check:
    """What a run would wait for until it fails. A lock that ends within that time does not matter."""
    deadline = time.monotonic() + LOCK_SECONDS
    with session(target.address) as connection:
        left_out = resolve(connection, wiring.exclusion).tables
        found = inventory.locked(connection, left_out)
        while found and not any(prepared for *_, prepared in found) and time.monotonic() < deadline:
            wiring.stop.sleep(1)
            found = [each for each in inventory.locked(connection, left_out) if each in found]
    if not found:
        return "none: no other session has locked one exclusively"
    table, who, prepared = next((each for each in found if each[2]), found[0])
    return Check(
        f"postgres {target.name}: locked tables",
        False,
        f"{table} is locked by {who}: a backup would wait for it, and fail",
        "COMMIT PREPARED or ROLLBACK PREPARED: see pg_prepared_xacts" if prepared else "see pg_stat_activity",
    )


def _server(address: Address) -> str:
    """A PostgreSQL server, which may have many databases."""
    place = ":".join(filter(None, (address.public.get("host"), address.public.get("port"))))
    return f"PostgreSQL at {place or address}"


def server_checks(server: ServerTarget, known: Shared) -> Iterator[Check]:
    """The conditions for streaming a server without getting into production's way."""
    name = f"server {server.name}"
    found: list[Finding] = []

    def look() -> str:
        with WalSender.connect(server.address) as sender:
            found.extend(findings(sender))
            return f"version {sender.version // 10000}, replication is allowed"

    yield known.asked(_server(server.address), name, look)
    for each in found:
        yield Check(f"{name}: {each.what}", each.ok, each.detail, each.fix)
