"""Predicts what ``pg_restore`` cannot restore because objects were added to an extension, or removed from it and kept.

Only an extension that was just created shows which objects it has. A server for that is started only if a name gives reason to.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import psycopg
from psycopg import Connection, sql
from psycopg.rows import TupleRow

from backup.catalogue.manifest import Provided
from backup.load.throwaway import cluster, server_options
from backup.postgres import inventory
from backup.postgres.provided import dumped, provided, used
from backup.postgres.session import session
from backup.verify.provided import own_schemas, predicted
from backup.wiring import Wiring

_EXTENSIONS = """
SELECT extname, nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = extnamespace ORDER BY e.oid
"""
# A name, or an operator.
_WORD = re.compile(r"\w+|[-+*/<>=~!@#%^&|`?]+")


def unrestorable(connection: Connection[TupleRow], wiring: Wiring) -> list[str]:
    """A description of each object that ``pg_restore`` cannot restore, with the advice."""
    members = [each for each in provided(connection) if each.provider]
    found = list(own_schemas(inventory.left_out(connection), used(connection)))
    if wiring.settings.verify_url is None and _suspected(connection, wiring, members):
        created = _created(connection, wiring)
        providers = {each.provider for each in created}
        mine = [each for each in members if each.provider in providers]
        added = {each.object for each in mine} - {each.object for each in created}
        removed = {each.object for each in created} - {each.object for each in mine}
        found += predicted(mine, created, dumped(connection, removed), used(connection, added))
    return found


def _suspected(connection: Connection[TupleRow], wiring: Wiring, members: Sequence[Provided]) -> bool:
    """Whether a name is in no script of its extension, or that of another object is in one."""
    folder = wiring.programs.extension_folder()
    words = {name: _words(folder, name) for name in {each.provider for each in members}}
    unknown = [each.object for each in members if not words[each.provider] & _named(each.object)]
    if unknown and used(connection, unknown):
        return True
    every = set().union(*words.values())
    return any(_named(each) <= every for each in dumped(connection))


def _words(folder: Path, extension: str) -> set[str]:
    texts = (file.read_text(errors="replace") for file in folder.glob(f"{extension}--*.sql"))
    return {word for text in texts for word in _WORD.findall(text)}


def _named(identity: str) -> set[str]:
    """The words of an object's own name, without its schema and arguments."""
    name = identity.partition("(")[0].rsplit(" ", 1)[-1].rpartition(".")[2]
    return set(_WORD.findall(name))


def _created(connection: Connection[TupleRow], wiring: Wiring) -> list[Provided]:
    """The objects of the same extensions on a new server here, if they have the same version."""
    settings = wiring.settings
    superuser = inventory.server(connection).superuser
    options = server_options(settings.verify_options)
    with (
        cluster(wiring.programs, superuser=superuser, parent=settings.work_dir, options=options) as own,
        session(own.address) as new,
    ):
        for name, schema in connection.execute(_EXTENSIONS).fetchall():
            _create(new, name, schema)
        same = {*inventory.extensions(connection)} & {*inventory.extensions(new)}
        names = {each.name for each in same}
        return [each for each in provided(new) if each.provider in names]


def _create(connection: Connection[TupleRow], name: str, schema: str) -> None:
    """Create an extension as a restore does. Another check reports one that cannot be created."""
    statements = [
        sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(schema)),
        sql.SQL("CREATE EXTENSION IF NOT EXISTS {} WITH SCHEMA {}").format(
            *map(sql.Identifier, (name, schema))
        ),
    ]
    for statement in statements:
        try:
            connection.execute(statement)
        except psycopg.Error:
            if connection.broken:
                raise
