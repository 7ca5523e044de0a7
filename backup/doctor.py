"""Checks what a backup and its restore need, end to end. Results are collected here and printed elsewhere."""

import io
import os
import pwd
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from importlib.metadata import version
from pathlib import Path

import psycopg

from backup.cancellation import OutOfTimeError, limited
from backup.catalogue.signatures import name_of
from backup.confinement import strength
from backup.errors import KeptError, PreflightError, StoreError, VerificationError
from backup.exposure import short_secrets, unencrypted
from backup.hooks import AFTER, BEFORE, unstartable
from backup.load.space import room
from backup.load.throwaway import cluster, find_files, server_options
from backup.physical.fitness import Finding, findings
from backup.physical.walsender import WalSender
from backup.pipeline.encrypt import decrypt, encrypt
from backup.postgres import inventory
from backup.postgres.dsn import Address
from backup.postgres.exclusion import resolve
from backup.postgres.preflight import preflight
from backup.postgres.session import session
from backup.postgres.snapshot import LOCK_SECONDS
from backup.run import SPOOL_MARGIN, engine_for
from backup.store import NoDeleteStore, RetryingStore, Store
from backup.targets import Database, PostgresTarget, RedisTarget, ServerTarget, Target
from backup.verify import configured
from backup.verify.checks import usable
from backup.verify.place import lacking
from backup.verify.provable import (
    ARCHIVE_FACTOR,
    CLIENT_PROGRAMS,
    SERVER_PROGRAMS,
    SPACE_FACTOR,
    suspicions,
    too_long,
)
from backup.wiring import Wiring
from sidecar import OpsError
from sidecar.humanize import size
from sidecar.logs import SHORTEST_SECRET
from sidecar.rootless import SEEMING_ID

PROBE = ".doctor/probe"
PROBE_BYTES = 6 << 20
MAX_SKEW_SECONDS = 30.0
CHECK_SECONDS = 60.0
LOCKED_SECONDS = 5
# How servers name a lock when they refuse to delete an object.
_LOCKED = re.compile(r"lock|retention|retain|worm|immutab", re.IGNORECASE)
# A line of an extension's control file.
_DEFAULT_VERSION = re.compile(r"^\s*default_version\s*=\s*'([^']*)'", re.MULTILINE)


@dataclass(frozen=True)
class Check:
    """The result of one check. ``ok`` is None for a remark."""

    name: str
    ok: bool | None
    detail: str
    fix: str = ""


Probe = Callable[[], str | Check]


@dataclass
class _Known:
    """What the checks of one examination share.

    Attributes:
        sizes: bytes of each database that answered, by its name.
        silent: the servers and stores that have not answered in time. They are not waited for again.
    """

    sizes: dict[str, int] = field(default_factory=dict)
    silent: set[str] = field(default_factory=set)

    def asked(self, whom: str, name: str, probe: Probe) -> Check:
        """The result of a check that waits for a server or a store."""
        if whom in self.silent:
            return Check(
                name,
                False,
                f"not checked: {whom} did not respond earlier",
                "check it: it does not refuse connections, it just does not respond",
            )
        return _carried_out(name, probe, lambda: self.silent.add(whom))


def examine(wiring: Wiring) -> Iterator[Check]:
    """Run all checks. Each yields exactly one result, whatever happens."""
    known = _Known()
    for store in wiring.stores:
        yield from _store_checks(wiring, store, known)
    if wiring.offsite is not None:
        yield _carried_out("store offsite: key", lambda: _own_key(wiring))
    yield _carried_out("signatures", lambda: _signatures(wiring))
    yield _carried_out("encryption", lambda: _encryption(wiring))
    if any(isinstance(target, PostgresTarget) for target in wiring.targets):
        yield from _programs_checks(wiring)
    if wiring.discovery is not None:
        yield _carried_out("databases", lambda: _discovered(wiring))
    for target in wiring.targets:
        yield from _target_checks(wiring, target, known)
    yield _carried_out("connections", lambda: _connections(wiring))
    yield _carried_out("secrets", lambda: _secrets(wiring))
    yield from _commands(wiring)
    yield from (check for server in wiring.servers for check in _server_checks(server, known))
    yield _carried_out("confinement", _confinement)
    yield _carried_out("work folder", lambda: _work_folder(wiring, known))
    if any(isinstance(target, PostgresTarget) for target in wiring.targets):
        yield _carried_out("snapshots", lambda: _snapshots(wiring))
    if wiring.settings.spool_dir:
        yield _carried_out("spool", lambda: _spool(wiring, known))
    else:
        yield Check(
            "spool", None, "none: no backups are taken while the store is unavailable", "set BACKUP_SPOOL_DIR"
        )


def _carried_out(name: str, probe: Probe, when_silent: Callable[[], object] = lambda: None) -> Check:
    try:
        with limited(
            CHECK_SECONDS,
            "no response within a minute",
            "check the server and the network: the connection is not refused, but there is no response",
        ):
            found = probe()
    except OpsError as error:
        if isinstance(error, OutOfTimeError):
            when_silent()
        # Hints to run doctor are dropped, because this is doctor.
        hint = "read the message, and the store's own log" if "backup doctor" in error.hint else error.hint
        return Check(name, False, error.message, hint)
    except (OSError, psycopg.Error) as error:
        return Check(name, False, str(error), "check its permissions and free space")
    return found if isinstance(found, Check) else Check(name, True, found)


def _store_checks(wiring: Wiring, store: RetryingStore, known: _Known) -> Iterator[Check]:
    name = f"store {store.name}"
    asked = partial(known.asked, name)
    access = asked(f"{name}: access", lambda: _access(store))
    yield access
    if access.ok:
        yield asked(f"{name}: put, get, delete", lambda: _small_object(store))
        if wiring.settings.s3_object_lock_days and store.name != "spool":
            yield asked(f"{name}: lock", lambda: _lock(store))
        yield asked(f"{name}: multipart", lambda: _multipart(store))
        yield asked(f"{name}: clock", lambda: _clock(store))


def _access(store: Store) -> str:
    store.check()
    # Test objects that an earlier doctor could not delete, because they were locked.
    with suppress(StoreError):
        store.delete([info.key for info in store.walk(".doctor/")])
    return store.url


def _probe_key(store: RetryingStore) -> str:
    """A key for a test object; always the same one if it cannot be deleted, unless the store does not allow it to be replaced."""
    if isinstance(store.inner, NoDeleteStore):
        if store.head(PROBE) is None:
            return PROBE
        with suppress(KeptError):
            store.put(PROBE, secrets.token_bytes(8))
            return PROBE
    return f".doctor/{secrets.token_hex(6)}"


def _forget(store: Store, key: str) -> None:
    """Another check covers whether it may be deleted."""
    with suppress(StoreError):
        store.delete([key])


def _small_object(store: RetryingStore) -> str | Check:
    key, data = _probe_key(store), secrets.token_bytes(64)
    store.put(key, data)
    try:
        if store.get(key) != data:
            raise StoreError("it returned different bytes", hint="do not use this store", operation="get")
    finally:
        kept = _why_kept(store, key)
    if isinstance(store.inner, NoDeleteStore):
        if kept:
            return "put and get work; it cannot delete, as intended"
        fix = "give it a key without s3:DeleteObject: docs/two-keys.md"
        return Check(
            f"store {store.name}: put, get, delete", None, "BACKUP_DELETE=never, but this key can delete", fix
        )
    if kept and (locked := store.default_retention() or _LOCKED.search(kept)):
        how_long = locked if isinstance(locked, str) else "a time that this key may not read"
        return Check(
            f"store {store.name}: put, get, delete",
            None,
            f"all three work; the bucket locks everything for {how_long}, including the test objects",
            "none needed",
        )
    if kept:
        raise StoreError(
            f"it did not delete the test object: {kept}",
            hint="allow s3:DeleteObject, or set BACKUP_DELETE=never: docs/two-keys.md",
            operation="delete",
        )
    return "all three work"


def _why_kept(store: RetryingStore, key: str) -> str | None:
    """Why the key cannot delete, regardless of this process's own limits; None if it can."""
    real = store.inner.inner if isinstance(store.inner, NoDeleteStore) else store
    try:
        refused = real.delete([key])
    except StoreError as error:
        return error.message
    return refused[0].reason if refused else None


def _own_key(wiring: Wiring) -> str | Check:
    settings = wiring.settings
    if settings.offsite_s3_access_key_id is not None or not (settings.offsite_store_url or "").startswith(
        "s3:"
    ):
        return "separate"
    return Check(
        "store offsite: key",
        None,
        "the main store's: anyone who has that key can delete both copies",
        "set BACKUP_OFFSITE_S3_ACCESS_KEY_ID and BACKUP_OFFSITE_S3_SECRET_ACCESS_KEY; see docs/two-keys.md",
    )


def _signatures(wiring: Wiring) -> str | Check:
    if wiring.keys:
        names = [name_of(key) for key in wiring.keys.keys]
        return f"signs with key {names[0]}, trusts {len(names)}"
    return Check(
        "signatures",
        None,
        "backups are NOT signed: anyone who can write to the store can forge one",
        "set BACKUP_MANIFEST_KEY_FILE; see docs/security.md",
    )


def _lock(store: RetryingStore) -> str:
    """Store a locked object, as a run does. Its retention is short, so that the next doctor can remove it."""
    soon = datetime.now(UTC) + timedelta(seconds=LOCKED_SECONDS)
    store.put(_probe_key(store), b"lock", retain_until=soon)
    upload = store.begin(_probe_key(store), retain_until=soon)
    try:
        upload.part(1, 0, b"lock")
        upload.complete()
    except BaseException:
        upload.abort()
        raise
    return "objects are locked"


def _multipart(store: RetryingStore) -> str | Check:
    key, part = _probe_key(store), os.urandom(PROBE_BYTES)
    upload = store.begin(key)
    try:
        upload.part(1, 0, part)
        upload.part(2, len(part), b"end")
        upload.complete()
        read = b"".join(store.stream(key))
    except BaseException:
        upload.abort()
        raise
    _forget(store, key)
    if read != part + b"end":
        raise StoreError("it returned different bytes", hint="do not use this store", operation="complete")
    try:
        list(store.pending(".doctor/"))
    except StoreError as error:
        return Check(
            f"store {store.name}: multipart",
            None,
            f"it works; unfinished uploads cannot be listed, so those of killed runs remain: {error.message}",
            "allow s3:ListBucketMultipartUploads, or let the bucket abort unfinished uploads after some days",
        )
    return f"two parts, {size(len(read))}"


def _clock(store: RetryingStore) -> str | Check:
    key = _probe_key(store)
    store.put(key, b"clock")
    info = store.head(key)
    _forget(store, key)
    skew = abs(time.time() - info.modified.timestamp()) if info else 0.0
    if skew > MAX_SKEW_SECONDS:
        return Check(
            f"store {store.name}: clock",
            False,
            f"{skew:.0f} s off from this host's clock",
            "synchronise the clocks (NTP)",
        )
    return f"{skew:.1f} s off from this host's clock"


def _encryption(wiring: Wiring) -> str | Check:
    if not wiring.packing.recipients:
        return Check(
            "encryption", None, "backups are NOT encrypted", "set BACKUP_AGE_RECIPIENTS; see docs/backup.md"
        )
    sealed = io.BytesIO()
    encrypt(io.BytesIO(b"probe"), sealed, wiring.packing.recipients)
    if not wiring.identities:
        return Check(
            "encryption",
            None,
            f"{len(wiring.packing.recipients)} recipients but no identity: backups cannot be verified here",
            "set BACKUP_AGE_IDENTITY_FILE, or verify on another host",
        )
    opened = io.BytesIO()
    sealed.seek(0)
    decrypt(sealed, opened, wiring.identities)
    return f"round trip for {len(wiring.packing.recipients)} recipients (pyrage {version('pyrage')})"


def _programs_checks(wiring: Wiring) -> Iterator[Check]:
    yield _carried_out("programs", lambda: _programs(wiring))
    if wiring.settings.verify_url is None:
        yield _carried_out("user", _user)
        if wiring.settings.verify_options:
            yield _carried_out("BACKUP_VERIFY_OPTIONS", lambda: _options(wiring))


def _options(wiring: Wiring) -> str | Check:
    """Whether a throwaway server starts with the settings that it is given."""
    settings = wiring.settings
    options = server_options(settings.verify_options)
    try:
        with cluster(wiring.programs, superuser="postgres", parent=settings.work_dir, options=options):
            return f"a throwaway server starts with {', '.join(options)}"
    except VerificationError as error:
        return Check("BACKUP_VERIFY_OPTIONS", False, error.message, "correct BACKUP_VERIFY_OPTIONS")


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


def _discovered(wiring: Wiring) -> str | Check:
    wiring.discover()
    names = [target.name for target in wiring.targets]
    if not names:
        return Check("databases", False, "no database to back up was found", "see BACKUP_DISCOVER_SKIP")
    if wiring.discovery and (closed := ", ".join(wiring.discovery.closed)):
        return Check(
            "databases",
            None,
            f"{', '.join(names)}; not backed up, as templates or without connections: {closed}",
            "add them to BACKUP_DISCOVER_SKIP if that is intended",
        )
    return ", ".join(names)


def _target_checks(wiring: Wiring, target: Database, known: _Known) -> Iterator[Check]:
    name = f"{target.kind} {target.name}"
    if isinstance(target, PostgresTarget):
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
                    _server(given),
                    f"{name}: verification",
                    lambda: _verifiable_there(wiring, target, given),
                )
            yield asked(f"{name}: left out", lambda: _left_out(wiring, target))
            yield asked(f"{name}: locks", lambda: _locks(wiring, target))
            yield asked(f"{name}: locked tables", lambda: _locked_tables(wiring, target))
    else:
        asked = partial(known.asked, f"Redis {target.address}")
        reached = asked(name, lambda: _redis(wiring, target, known))
        yield reached
        if reached.ok:
            yield asked(f"{name}: RDB", lambda: _rdb(wiring, target))


def _server(address: Address) -> str:
    """A PostgreSQL server, which may have many databases."""
    place = ":".join(filter(None, (address.public.get("host"), address.public.get("port"))))
    return f"PostgreSQL at {place or address}"


def _server_checks(server: ServerTarget, known: _Known) -> Iterator[Check]:
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


def _rdb(wiring: Wiring, target: RedisTarget) -> str | Check:
    """The first bytes of a real RDB, and whether the programs here load such a file."""
    from backup.redis.engine import info_of, replica_of  # Redis's client library takes a long time to load
    from backup.redis.product import modules_of, product_here, product_of, refusal, signature
    from backup.redis.rdb import RdbSource, beginning

    name = f"redis {target.name}: RDB"
    source = replica_of(target.address, info_of(target.address)) or target.address
    info = info_of(source)
    with RdbSource(source, product_of(info)) as reader:
        file = signature(beginning(reader))
    if file is None:
        return Check(name, False, "the reply is not an RDB", "check the server's log")
    try:
        reason = refusal(file, product_here(wiring.redis_programs, file.product))
    except PreflightError as error:
        return Check(name, None, f"{file}; nothing can be verified here: {error.message}", error.hint)
    fix = "install the server's own product and version, or set BACKUP_REDIS_BIN to its programs"
    if reason:
        return Check(name, False, f"{reason}: a backup could not be verified", fix)
    if (modules := modules_of(info)) and not wiring.settings.redis_modules.split():
        found = f"{file}; a verification here could not load keys of the modules {', '.join(modules)}"
        return Check(name, None, found, "set BACKUP_REDIS_MODULES to the files of those modules")
    return str(file)


def _redis(wiring: Wiring, target: Database, known: _Known) -> str:
    found = engine_for(wiring, target).preflight()
    known.sizes[target.name] = found.size
    return found.client


def _postgres(wiring: Wiring, target: PostgresTarget, known: _Known) -> str:
    found = preflight(target.address, wiring.programs, wiring.exclusion)
    known.sizes[target.name] = found.size
    return f"server {found.server.version}, pg_dump {found.client}, {size(found.size)}, everything readable, no pooler"


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
        detail = f"BACKUP_VERIFY_URL: PostgreSQL {there} runs there, which may not know what the database has, of {major}"
        return Check(name, None, detail, f"use a server of PostgreSQL {major}")
    return "BACKUP_VERIFY_URL: version, extensions and privileges suffice"


def _left_out(wiring: Wiring, target: PostgresTarget) -> str | Check:
    with session(target.address) as connection:
        excluded = resolve(connection, wiring.exclusion)
        notes = [*excluded.notes(), *inventory.left_out(connection)]
    notes += [f"no table matches {pattern}" for pattern in excluded.unmatched]
    if not notes:
        return "nothing"
    return Check(f"postgres {target.name}: left out", None, "; ".join(notes), "see docs/backup.md")


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


def _connections(wiring: Wiring) -> str | Check:
    if found := list(unencrypted(wiring)):
        return Check("connections", None, "; ".join(found), "use TLS outside of a private network")
    return "encrypted, or within this host"


def _secrets(wiring: Wiring) -> str | Check:
    if short := short_secrets(wiring):
        have = "one has" if short == 1 else f"{short} have"
        return Check(
            "secrets",
            None,
            f"{have} fewer than {SHORTEST_SECRET} characters: too short to be masked in logs and messages",
            "use a longer password",
        )
    return "long enough to be masked in logs"


def _commands(wiring: Wiring) -> Iterator[Check]:
    """The user's own commands and checks."""
    settings = wiring.settings
    for variable, command in ((BEFORE, settings.before_command), (AFTER, settings.after_command)):
        if command:
            yield _carried_out(variable, partial(_hook, variable, command))
    if settings.verify_checks_dir is not None or settings.verify_command is not None:
        yield _carried_out("checks", lambda: usable(settings.verify_checks_dir, settings.verify_command))


def _hook(variable: str, command: str) -> str | Check:
    if problem := unstartable(command):
        return Check(
            variable, False, problem, "check its path; a script begins with a line such as #!/bin/sh"
        )
    return command


def _confinement() -> str | Check:
    """Whether programs that touch restored content can be kept from our keys, files and network."""
    found = strength()
    if not found.lacking:
        return f"Landlock, version {found.version}: files, TCP, signals"
    fix = "use a kernel with Landlock (5.13 or newer; 6.12 for all restrictions); see docs/security.md"
    return Check("confinement", None, f"this kernel does not restrict: {', '.join(found.lacking)}", fix)


def _work_folder(wiring: Wiring, known: _Known) -> str | Check:
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


def _to_verify(wiring: Wiring, target: Target, known: _Known) -> int:
    """Bytes that a verification of a database's newest backup needs here; before there is one, by the size on its server."""
    there = isinstance(target, PostgresTarget) and wiring.settings.verify_url is not None
    with suppress(OpsError):  # the checks of the store report it
        if newest := wiring.reader().recent_manifests(target.name, 1):
            return int(newest[0].raw_bytes * (ARCHIVE_FACTOR if there else SPACE_FACTOR))
    # The uncompressed archive, and the database that is restored from it.
    return known.sizes.get(target.name, 0) * (1 if there else 2)


def _spool(wiring: Wiring, known: _Known) -> str | Check:
    folder = wiring.settings.spool_dir
    assert folder is not None
    folder.mkdir(parents=True, exist_ok=True)
    # The largest database must fit, by its size on the server. Those that did not answer are reported there.
    needed, free = int(max(known.sizes.values(), default=0) * SPOOL_MARGIN), shutil.disk_usage(folder).free
    found = f"{size(free)} free in {folder}"
    fix = "set BACKUP_SPOOL_DIR to a folder with more room; data that compresses well may still fit"
    return found if free >= needed else Check("spool", False, f"{found}, {size(needed)} may be needed", fix)
