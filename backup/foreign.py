"""Imports a dump that another ``pg_dump`` made, as a backup like our own.

From then on it is verified, restored, kept and copied like all others. An archive in the custom format is stored as it is.
Any other dump is loaded into a throwaway server first, and a dump of that is stored. The manifest's notes state what the archive does not contain: no row counts were taken when it was made, and it has no roles, so the roles
that it names are created without rights.
"""

import logging
import re
import tarfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from backup.catalogue import layout
from backup.catalogue.commit import commit, confirm, discard
from backup.catalogue.ids import new_id
from backup.catalogue.manifest import Extension, Manifest, Server, Table
from backup.confinement import Confinement
from backup.errors import DumpError
from backup.load import script
from backup.load.convert import convert
from backup.load.decompress import decompressed
from backup.load.space import guarded
from backup.load.throwaway import private_folder
from backup.pipeline import ChildSource, transfer
from backup.pipeline.source import CHUNK, Source
from backup.postgres.identifiers import NAME, unquoted
from backup.postgres.statements import split
from backup.programs import Programs, clean_environment
from backup.progress import Progress, silent
from backup.restore.partitions import attachments, topmost
from backup.run import TOOL
from backup.verify.digests import digests
from backup.wiring import Wiring
from sidecar import UsageError
from sidecar.logs import fields

log = logging.getLogger(__name__)

_MAGIC = b"PGDMP"
_VERSION = re.compile(
    r"^;\s+Dumped from database version: (?P<version>(?P<major>\d+)(?:\.(?P<minor>\d+))?)", re.MULTILINE
)
_CLIENT = re.compile(r"^;\s+Dumped by pg_dump version: (?P<version>\S+)", re.MULTILINE)
_SCHEMA = re.compile(rb"CREATE SCHEMA (?P<schema>" + NAME + rb");")
_TABLE = re.compile(
    rb"CREATE (?:UNLOGGED |FOREIGN )?(?:TABLE|VIEW|MATERIALIZED VIEW|SEQUENCE) (?P<schema>"
    + NAME
    + rb")(?=\."
    + NAME
    + rb")"
)
_DEFINITION = re.compile(rb"CREATE (?:UNLOGGED |FOREIGN )?TABLE ")
_ORDINARY = re.compile(rb"CREATE (?:UNLOGGED )?TABLE (?P<schema>" + NAME + rb")\.(?P<name>" + NAME + rb") ")
_PARTITIONED = re.compile(rb"\)\nPARTITION BY [^\n]*;\s*$")
# An entry of an archive's list: the owner or the rights of large objects.
_OF_LARGE_OBJECT = re.compile(rb"\d+; \d+ \d+ (?:BLOB(?: METADATA)? - |ACL - LARGE OBJECTS? )")
_EXTENSION = re.compile(rb"CREATE EXTENSION IF NOT EXISTS (?P<name>" + NAME + rb") ")
_CREATION = re.compile(rb"CREATE DATABASE .*? ENCODING = '(?P<encoding>[^']+)'(?P<rest>.*);", re.DOTALL)
_OPTION = re.compile(
    rb"(?P<name>LOCALE_PROVIDER|LOCALE|LC_COLLATE|LC_CTYPE|ICU_LOCALE|ICU_RULES|BUILTIN_LOCALE) = "
    rb"(?:'(?P<text>(?:[^']|'')*)'|(?P<word>[^' ]+))"
)
_PROVIDERS = {b"icu": "i", b"builtin": "b"}
# A role in a statement. Without quotes, it has only characters that need none, so it cannot be a part of a string.
_ROLE = rb"(?:\"(?:[^\"]|\"\")+\"|[A-Za-z_]\w*)"
_OWNER = re.compile(
    rb"ALTER [A-Z ]+ .* OWNER TO (?P<one>"
    + _ROLE
    + rb");|SET SESSION AUTHORIZATION '(?P<session>(?:[^']|'')+)';",
    re.DOTALL,
)
# Where else statements name roles: grantors and grantees, default privileges, policies, user mappings, settings. Each pattern
# is a whole statement, or its beginning: the rest may contain any text.
_ROLES = tuple(
    re.compile(pattern, re.DOTALL)
    for pattern in (
        rb"SET SESSION AUTHORIZATION (?P<one>" + _ROLE + rb");\Z",
        rb"(?:GRANT|REVOKE|ALTER DEFAULT PRIVILEGES) .* (?:TO|FROM) (?P<one>"
        + _ROLE
        + rb")(?: WITH GRANT OPTION)?;\Z",
        rb"ALTER DEFAULT PRIVILEGES FOR ROLE (?P<one>" + _ROLE + rb") ",
        rb"CREATE USER MAPPING FOR (?P<one>" + _ROLE + rb") SERVER ",
        rb"ALTER ROLE (?P<one>" + _ROLE + rb") IN DATABASE ",
        rb"CREATE POLICY "
        + NAME
        + rb" ON (?:"
        + NAME
        + rb"\.)?"
        + NAME
        + rb"(?: AS RESTRICTIVE)?(?: FOR [A-Z]+)? TO (?P<many>"
        + _ROLE
        + rb"(?:, "
        + _ROLE
        + rb")*)(?: USING| WITH CHECK|;)",
    )
)
_NAMED = re.compile(_ROLE)
# What only a superuser may own.
_SUPERUSERS = re.compile(rb"ALTER (?:EVENT TRIGGER|FOREIGN DATA WRAPPER) ")
_PUBLIC = frozenset({"public", "current_user", "session_user", "default"})
_MADE = (
    "CREATE ROLE {0};\nALTER ROLE {0} WITH NOSUPERUSER INHERIT NOCREATEROLE NOCREATEDB NOLOGIN NOREPLICATION"
    " NOBYPASSRLS;\n"
)
SCRIPT = "script"
SUPERUSER = "postgres"
Name = tuple[str, str]
# The first member of an archive in tar, and a file in an archive that is a folder.
_CONTENTS = "toc.dat"
_ARCHIVE = "the archive was restored on a server {1} and dumped again; it is from a server {0}"
_SCRIPT = (
    "the file is SQL, from a server {0}: it was loaded into a server {1} and dumped again, without settings, comment and"
    " grants of the database itself, and with the locale C unless the file states one"
)
_NOTES = (
    "imported from a file: its rows were counted in the file, not in the database",
    "the file has no roles: those that it names are created without rights and memberships",
)


def take_in(wiring: Wiring, name: str, file: Path, progress: Progress = silent) -> Manifest:
    """Store a dump as a backup of a database whose name is not configured.

    Raises:
        UsageError: the file is not a dump of pg_dump, or the name belongs to a configured database.
        DumpError: the dump cannot be read to its end, or PostgreSQL refuses it.
    """
    if any(target.name == name for target in wiring.everything):
        raise UsageError(
            f"{name} is a configured database, which has its own backups",
            hint="choose another name with --as",
        )
    with private_folder(wiring.settings.work_dir) as folder:
        with _readable(file):
            taken = datetime.fromtimestamp(file.stat().st_mtime, UTC)
            file = decompressed(file, folder, guarded(wiring, folder))
            form = _format(file)
        statements = _contents(wiring, file, form)
        notes: tuple[str, ...] = _NOTES
        if form != "custom" or _schemas(statements):
            archive = folder / layout.ARCHIVE
            notes = (*notes, *_convert(wiring, file, form, statements, archive))
            file, statements = archive, list(_statements(wiring.programs, archive, wiring.stop.check))
        return _store(wiring, name, file, statements, taken, notes, progress)


@contextmanager
def _readable(file: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}", hint="check its path") from None


def _contents(wiring: Wiring, file: Path, form: str) -> list[bytes]:
    """The statements of a dump."""
    if form == SCRIPT:
        script.check_whole(file)
        return list(script.statements(file))
    return list(_statements(wiring.programs, file, wiring.stop.check))


def _origin(programs: Programs, file: Path, form: str, check: Callable[[], None]) -> str:
    """The version of the server that a dump is from."""
    if form == SCRIPT:
        return script.version(file)
    listed = _VERSION.search(_printed(programs, file, check, "--list").decode(errors="replace"))
    return listed["version"] if listed else "of unknown version"


def _convert(wiring: Wiring, file: Path, form: str, statements: list[bytes], archive: Path) -> Iterator[str]:
    """Write an archive of the content of a dump in another format; yields notes about it."""
    programs, check = wiring.programs, wiring.stop.check
    superuser = _superuser(statements)
    roles = split(_globals(quoted for name, quoted in _roles(statements).items() if name != superuser))
    here = {"version": programs.version("postgres"), "version_number": programs.major("postgres") * 10_000}
    like = _server(here, statements)
    schemas = _schemas(statements)
    if form == SCRIPT and not any(map(_DEFINITION.match, statements)) and script.has_rows(file):
        raise _without_definitions(file)
    making = [f"CREATE SCHEMA {each};".encode(errors="surrogateescape") for each in schemas]
    loaded = convert(wiring, file, superuser, roles, making, like, archive, is_script=form == SCRIPT)
    _check_rows(programs, archive, loaded, check)
    note, origin = _SCRIPT if form == SCRIPT else _ARCHIVE, _origin(programs, file, form, check)
    yield note.format(origin, programs.version("postgres"))
    if schemas:
        yield f"the file does not contain the schemas of its tables, which were created: {', '.join(schemas)}"


def _without_definitions(file: Path) -> UsageError:
    return UsageError(
        f"{file} has the rows of tables, and not their definitions", hint="dump without --data-only"
    )


def _schemas(statements: Iterable[bytes]) -> list[str]:
    """The schemas of tables, quoted, that a dump does not create: that of some tables (``--table``) has none.

    A dump with extensions is complete: they may create schemas, too.
    """
    there, used = {"public"}, dict[str, bytes]()
    for statement in statements:
        if _EXTENSION.match(statement):
            return []
        if found := _SCHEMA.match(statement):
            there.add(unquoted(found["schema"]))
        elif found := _TABLE.match(statement):
            used[unquoted(found["schema"])] = found["schema"]
    return [quoted.decode(errors="surrogateescape") for name, quoted in used.items() if name not in there]


def _check_rows(programs: Programs, archive: Path, loaded: script.Loaded, check: Callable[[], None]) -> None:
    """A trigger or rule of the script could have changed its own rows.

    A partitioned table and its partitions are counted together: the script may load rows through any of them.
    """
    tops = topmost(attachments(programs, archive))
    rows, found = Counter[Name](), Counter[Name]()
    for name, number in loaded.rows.items():
        rows[tops.get(name, name)] += number
    for table in _tables(programs, archive, check):
        name = (table.schema_name, table.name)
        found[tops.get(name, name)] += table.rows
    for name, number in rows.items():
        if found[name] != number:
            raise DumpError(
                f"{'.'.join(name)} has {number} rows in the file, and {found[name]} once it was loaded",
                hint="load it by hand, and see why",
            )


def _store(
    wiring: Wiring,
    name: str,
    file: Path,
    statements: list[bytes],
    taken: datetime,
    notes: tuple[str, ...],
    progress: Progress,
) -> Manifest:
    described, roles = _describe(wiring.programs, file, statements, wiring.stop.check)
    started = wiring.clock()
    backup_id = new_id(started)
    folder, retain = layout.folder(name, backup_id), wiring.retain_until(started)
    packing = replace(wiring.packing, retain_until=retain)
    with wiring.journal(name).attempt("backup", attempt_id=backup_id, backup=backup_id):
        try:
            objects = (
                transfer(
                    FileSource(file),
                    wiring.store,
                    folder,
                    layout.ARCHIVE,
                    role="archive",
                    packing=packing,
                    progress=progress,
                ),
                transfer(
                    TextSource(_globals(roles)),
                    wiring.store,
                    folder,
                    layout.GLOBALS,
                    role="globals",
                    packing=packing,
                ),
            )
            confirm(wiring.store, folder, objects)
            manifest = Manifest(
                id=backup_id,
                database=name,
                kind="postgres",
                started=started,
                finished=wiring.clock(),
                tool=TOOL,
                taken=taken,
                objects=objects,
                notes=notes,
                **described,
            )
            commit(wiring.store, manifest, wiring.keys, retain_until=retain)
        except BaseException:
            discard(wiring.store, name, backup_id)
            raise
    log.info("taken in %s", fields(id=backup_id, database=name, rows=manifest.rows))
    return manifest


class FileSource(Source):
    """The bytes of a file."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")

    def read(self) -> bytes:
        return self._file.read(CHUNK)

    def close(self) -> None:
        self._file.close()


class TextSource(Source):
    """Bytes in memory."""

    def __init__(self, data: bytes) -> None:
        self._left = data

    def read(self) -> bytes:
        data, self._left = self._left, b""
        return data

    def close(self) -> None:
        self._left = b""


def _format(file: Path) -> str:
    """``custom``, ``tar`` or ``directory`` for an archive, or ``script``.

    Raises:
        UsageError: it is none of these.
        OSError: it cannot be read.
    """
    if (file / _CONTENTS).is_file():
        return "directory"
    with file.open("rb") as opened:
        found = opened.read(tarfile.BLOCKSIZE)
    if found.startswith(_MAGIC):
        return "custom"
    if found.startswith(_CONTENTS.encode() + b"\0"):
        return "tar"
    if script.is_script(file):
        return SCRIPT
    if found.startswith(script.UTF16):
        raise UsageError(
            f"{file} is in UTF-16: a shell has converted what pg_dump wrote",
            hint="let pg_dump write the file itself: pg_dump --file=FILE",
        )
    raise UsageError(
        f"{file} is not a dump of pg_dump",
        hint="dump with pg_dump; decompress a compressed file first",
    )


def _describe(
    programs: Programs, file: Path, statements: list[bytes], check: Callable[[], None]
) -> tuple[dict[str, Any], list[str]]:
    """What the archive says about its origin and contents, as fields of a manifest; and the roles that it names, quoted."""
    listed = _printed(programs, file, check, "--list").decode(errors="replace")
    version, client = _VERSION.search(listed), _CLIENT.search(listed)
    if version is None or client is None:
        raise DumpError(f"{file} does not say which version wrote it", hint="run: pg_restore --list FILE")
    roles, tables = _roles(statements), tuple(_tables(programs, file, check))
    if tables and not any(map(_DEFINITION.match, statements)):
        raise _without_definitions(file)
    fields_of_manifest = {
        "client": client["version"],
        "server": _server(
            {
                "version": version["version"],
                "version_number": int(version["major"]) * 10_000 + int(version["minor"] or 0),
                "superuser": _superuser(statements),
            },
            statements,
        ),
        "extensions": tuple(_extensions(statements)),
        "roles": tuple(roles),
        "tables": tables,
        "excluded_rows": tuple(_without_rows(statements, tables)),
    }
    return fields_of_manifest, list(roles.values())


def _extensions(statements: Iterable[bytes]) -> Iterator[Extension]:
    """Every new database has plpgsql, so a dump does not name it. It has never had another version."""
    yield Extension(name="plpgsql", version="1.0")
    for found in map(_EXTENSION.match, statements):
        if found and unquoted(found["name"]) != "plpgsql":
            yield Extension(name=unquoted(found["name"]), version="not known")


def _tables(programs: Programs, file: Path, check: Callable[[], None]) -> Iterator[Table]:
    with _reading(programs, file, check, "--data-only", "--file=-") as source:
        found = digests(iter(source.read, b""))
    for (_, schema, name), digest in found.items():
        if digest.rows is not None and (table := script.COPY.match(digest.text.encode())):
            exact = unquoted(table["schema"]) if table["schema"] else schema, unquoted(table["name"])
            # The comment above the statement has a blank for each line end of a name. The statement may name a table above.
            same = tuple(map(_in_a_comment, exact)) == (schema, name)
            yield Table(
                schema=exact[0] if same else schema, name=exact[1] if same else name, rows=digest.rows
            )


def _without_rows(statements: Iterable[bytes], counted: Iterable[Table]) -> Iterator[str]:
    """The tables that a dump defines, and whose rows it does not have (``--exclude-table-data``)."""
    there = {table.label for table in counted}
    for statement in statements:
        found = _ORDINARY.match(statement)
        if found is None or _PARTITIONED.search(statement):
            continue
        label = f"{unquoted(found['schema'])}.{unquoted(found['name'])}"
        if label not in there:
            yield label


def _in_a_comment(name: str) -> str:
    return re.sub(r"[\r\n]", " ", name)


def _statements(programs: Programs, file: Path, check: Callable[[], None]) -> Iterator[bytes]:
    yield from split(_printed(programs, file, check, "--schema-only", "--create", "--file=-"))
    # For pg_restore, all of a large object is data.
    listed = _printed(programs, file, check, "--list").splitlines(keepends=True)
    if chosen := [line for line in listed if _OF_LARGE_OBJECT.match(line)]:
        with NamedTemporaryFile(prefix="posthub-list-") as entries:
            entries.write(b"".join(chosen))
            entries.flush()
            own = (Path(entries.name),)
            yield from split(
                _printed(programs, file, check, f"--use-list={entries.name}", "--file=-", reads=own)
            )


def _server(found: dict[str, Any], statements: Iterable[bytes]) -> Server:
    creation = next(filter(None, map(_CREATION.match, statements)), None)
    if creation is None:
        return Server.model_validate(found)
    options = {
        match["name"]: match["word"] or match["text"].replace(b"''", b"'")
        for match in _OPTION.finditer(creation["rest"])
    }
    plain = options.get(b"LOCALE", b"C")
    provider = _PROVIDERS.get(options.get(b"LOCALE_PROVIDER", b"libc"), "c")
    of_provider = options.get(b"ICU_LOCALE") or options.get(b"BUILTIN_LOCALE")
    rules = options.get(b"ICU_RULES")
    return Server.model_validate(
        {
            **found,
            "encoding": creation["encoding"].decode(),
            "collate": options.get(b"LC_COLLATE", plain).decode(),
            "ctype": options.get(b"LC_CTYPE", plain).decode(),
            "locale_provider": provider,
            "locale": of_provider.decode() if of_provider else None,
            "collation_rules": rules.decode(errors="replace") if rules else None,
        }
    )


def _superuser(statements: Iterable[bytes]) -> str:
    """The role that is taken for the original's superuser: who owns what only a superuser may own, or owns the most."""
    owners, certain = Counter[str](), Counter[str]()
    for statement in statements:
        if found := _OWNER.fullmatch(statement):
            owners[unquoted(_quoted(found))] += 1
            certain[unquoted(_quoted(found))] += bool(_SUPERUSERS.match(statement))
    names = sorted(owners, key=lambda name: (certain[name], owners[name]), reverse=True)
    return next((name for name in names if not name.startswith("pg_")), SUPERUSER)


def _roles(statements: Iterable[bytes]) -> dict[str, str]:
    """Roles that statements name, quoted as in the statements. A dump of roles quotes them in the same way."""
    found: dict[str, str] = {}
    for statement in statements:
        if owner := _OWNER.fullmatch(statement):
            quoted = _quoted(owner)
            found[unquoted(quoted)] = quoted.decode(errors="surrogateescape")
        for match in filter(None, (pattern.match(statement) for pattern in _ROLES)):
            text = match[match.lastgroup or 0]
            found.update(
                {unquoted(name): name.decode(errors="surrogateescape") for name in _NAMED.findall(text)}
            )
    return {
        name: quoted
        for name, quoted in sorted(found.items())
        if name.lower() not in _PUBLIC and not name.startswith("pg_")
    }


def _quoted(match: re.Match[bytes]) -> bytes:
    """The name of an owner as an identifier; some statements give it as a string."""
    if match["session"] is None:
        return match["one"]
    return b'"%s"' % match["session"].replace(b"''", b"'").replace(b'"', b'""')


def _globals(roles: Iterable[str]) -> bytes:
    return "".join(_MADE.format(quoted) for quoted in roles).encode(errors="surrogateescape")


def _reading(
    programs: Programs, file: Path, check: Callable[[], None], *arguments: str, reads: tuple[Path, ...] = ()
) -> ChildSource:
    command = [programs.path("pg_restore"), "--no-tablespaces", *arguments, str(file)]
    confinement = Confinement(Path("/dev/null"), (file.resolve(), *reads))
    hint = "its version must be at least that of the pg_dump that made the file"
    return ChildSource(command, env=clean_environment(), hint=hint, confinement=confinement, check=check)


def _printed(
    programs: Programs, file: Path, check: Callable[[], None], *arguments: str, reads: tuple[Path, ...] = ()
) -> bytes:
    with _reading(programs, file, check, *arguments, reads=reads) as source:
        return b"".join(iter(source.read, b""))
