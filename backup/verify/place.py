"""What a database needs from the host that verifies it, as far as the database's server shows it.

A restore would report the same problems later, as errors (:mod:`backup.verify.provable`).
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from psycopg import Connection
from psycopg.rows import TupleRow

from backup.catalogue.manifest import Server
from backup.programs import Programs
from backup.verify.provable import missing_locales

# Extensions whose library the server must load when it starts, with the other settings that they need.
_PRELOADED = {"citus": "", "pg_cron": "; cron.database_name=restored", "pgaudit": "", "timescaledb": ""}
_NO_ICU = b"ICU is not supported in this build"
_DICTIONARIES = """
SELECT n.nspname || '.' || d.dictname, t.tmplname, d.dictinitoption
FROM pg_ts_dict d JOIN pg_namespace n ON n.oid = d.dictnamespace JOIN pg_ts_template t ON t.oid = d.dicttemplate
WHERE d.dictinitoption IS NOT NULL AND d.oid >= 16384 ORDER BY 1
"""
_COLLATIONS = """
SELECT n.nspname || '.' || c.collname, c.collprovider::text, c.collcollate, c.collctype
FROM pg_collation c JOIN pg_namespace n ON n.oid = c.collnamespace
WHERE c.oid >= 16384 AND c.collprovider IN ('c', 'i') ORDER BY 1
"""
# Libraries of functions in C, which extensions and users create.
_FUNCTIONS = """
SELECT probin, min(n.nspname || '.' || proname) FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE p.oid >= 16384 AND probin IS NOT NULL GROUP BY probin ORDER BY 1
"""
# The settings that a restore sets again: those of this database and of all roles.
_SETTINGS = """
SELECT split_part(setting, '=', 1), substr(setting, strpos(setting, '=') + 1)
FROM pg_db_role_setting CROSS JOIN unnest(setconfig) AS setting
WHERE (setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database()) OR setdatabase = 0 AND setrole <> 0)
  AND split_part(setting, '=', 1) IN ('lc_messages', 'lc_monetary', 'lc_numeric', 'lc_time', 'TimeZone')
ORDER BY 1, 2
"""
_ZONES = Path("/usr/share/zoneinfo")
_ZONE = re.compile(r"[A-Za-z_]+(?:/[\w+-]+)+")
# Options of dictionaries that name a file, and the file's extension; that of a thesaurus differs.
_FILES = {"dictfile": "dict", "afffile": "affix", "stopwords": "stop", "synonyms": "syn", "rules": "rules"}
_OPTION = re.compile(r"\b(?P<name>\w+) = '(?P<value>(?:[^']|'')*)'")


def lacking(
    connection: Connection[TupleRow], server: Server, programs: Programs, options: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    """Each thing that this host lacks, with the advice.

    Args:
        options: the settings of the throwaway server.
    """
    shared = programs.extension_folder().parent
    yield from _preloaded(connection, options)
    yield from _locales(connection, server, programs)
    yield from _settings(connection, shared)
    yield from _libraries(connection, programs.library_folder())
    for dictionary, template, text in connection.execute(_DICTIONARIES):
        for file in _files(template, text):
            if not (shared / "tsearch_data" / file).exists():
                found = f"the file {file} of the dictionary {dictionary} is missing here"
                yield (
                    found,
                    f"copy it from the server into {shared / 'tsearch_data'}, or set BACKUP_VERIFY_URL",
                )


def _preloaded(connection: Connection[TupleRow], options: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    loaded = re.split(r"[\s,]+", options.get("shared_preload_libraries", ""))
    query = "SELECT extname FROM pg_extension WHERE extname = ANY(%s) ORDER BY 1"
    wanted = [row[0] for row in connection.execute(query, [list(_PRELOADED)])]
    # The advice names all of them, and those that are already loaded: the setting is a single list.
    libraries = ",".join(dict.fromkeys([*filter(None, loaded), *wanted]))
    advice = f"set BACKUP_VERIFY_OPTIONS=shared_preload_libraries={libraries}{''.join(_PRELOADED[name] for name in wanted)}"
    for name in wanted:
        if name not in loaded:
            yield f"the extension {name} must be loaded when the throwaway server starts", advice


def _locales(
    connection: Connection[TupleRow], server: Server, programs: Programs
) -> Iterator[tuple[str, str]]:
    advice = "install it (Debian: locales), or set BACKUP_VERIFY_URL"
    if missing := missing_locales(server):
        yield (
            f"the database's locale {', '.join(missing)} is missing here; C is used instead, which compares texts differently",
            advice,
        )
    wanted = [("the database", server.locale_provider, server.collate, server.ctype)]
    wanted += [(f"the collation {row[0]}", row[1], row[2], row[3]) for row in connection.execute(_COLLATIONS)]
    without_icu = (
        any(each[1] == "i" for each in wanted) and _NO_ICU in Path(programs.path("postgres")).read_bytes()
    )
    for what, provider, collate, ctype in wanted:
        if provider == "i" and without_icu:
            yield (
                f"{what} uses ICU, which the programs here do not have",
                "install PostgreSQL's own programs, with ICU",
            )
        elif provider == "c" and what != "the database" and (names := _missing(collate, ctype)):
            yield f"the locale {', '.join(names)} of {what} is missing here", advice


def _libraries(connection: Connection[TupleRow], folder: Path | None) -> Iterator[tuple[str, str]]:
    if folder is None:
        return
    for library, function in connection.execute(_FUNCTIONS):
        file = folder / library.removeprefix("$libdir/")  # an absolute path stays as it is
        if not (file.exists() or file.with_name(f"{file.name}.so").exists()):
            yield (
                f"the library {library} of the function {function} is missing here",
                f"install it into {folder}, or set BACKUP_VERIFY_URL",
            )


def _settings(connection: Connection[TupleRow], shared: Path) -> Iterator[tuple[str, str]]:
    zones = (shared / "timezone", _ZONES)
    for name, value in dict.fromkeys(connection.execute(_SETTINGS)):
        if name != "TimeZone" and value and _missing(value, value):
            yield f"the locale {value} of the setting {name} is missing here", "install it (Debian: locales)"
        elif (
            name == "TimeZone"
            and _ZONE.fullmatch(value)
            and not any((zone / value).exists() for zone in zones)
        ):
            yield (
                f"the time zone {value} of a setting is unknown here",
                "update the time zones (Debian: tzdata)",
            )


def _missing(collate: str, ctype: str) -> list[str]:
    return missing_locales(Server(version="0", version_number=0, collate=collate, ctype=ctype))


def _files(template: str, options: str) -> Iterator[str]:
    """The files that a dictionary reads, by PostgreSQL's names for them."""
    for option in _OPTION.finditer(options):
        extension = _FILES.get(option["name"].lower())
        if extension and not (extension == "rules" and template != "unaccent"):
            yield f"{option['value'].replace(chr(39) * 2, chr(39))}.{'ths' if extension == 'dict' and template == 'thesaurus' else extension}"
