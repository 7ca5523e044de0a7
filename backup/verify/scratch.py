"""Where a verification restores to: a throwaway server, or a configured one."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from backup.catalogue.manifest import Manifest
from backup.catalogue.records import Difference
from backup.errors import PreflightError
from backup.load.pg_restore import load_globals, load_roles, read_globals
from backup.load.throwaway import cluster, private_folder, sweep_folders
from backup.postgres import roles
from backup.postgres.databases import Databases, databases
from backup.postgres.dsn import Address, parse
from backup.postgres.session import session
from backup.wiring import Wiring

DATABASE = "restored"
PREFIX = "posthub_ops_verify_"


@dataclass(frozen=True)
class Scratch:
    """An empty database for one restore.

    Attributes:
        folder: contains the downloaded files.
        database: the database that is created and filled.
        given: the server is a configured one that also has other databases.
    """

    wiring: Wiring
    manifest: Manifest
    folder: Path
    database: Address
    version: str
    given: bool

    def load_globals(self, dumped: Path) -> list[Difference]:
        """Create the roles; on a configured server only those that the database needs."""
        programs, check, superuser = (
            self.wiring.programs,
            self.wiring.stop.check,
            self.manifest.server.superuser,
        )
        if not self.given:
            return load_globals(programs, self.database.named("postgres"), dumped, superuser, check)
        with databases(self.database) as server:
            lines = roles.missing(read_globals(dumped), server.roles(), self.manifest.roles)
            return load_roles(programs, server.maintenance, lines, check)

    def create(self) -> str | None:
        """Create the empty database; returns how it differs from the original, if it does."""
        like, name = self.manifest.server, self.database.database
        with databases(self.database) as server:
            try:
                server.create(name, like)
            except PreflightError as error:
                with session(server.maintenance) as connection:
                    connection.execute(
                        sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING {} LOCALE 'C'").format(
                            sql.Identifier(name), sql.Literal(like.encoding)
                        )
                    )
                return f"the original's locale is not available here; C is used instead: {error.message}"
        return None


@contextmanager
def scratch(wiring: Wiring, manifest: Manifest) -> Iterator[Scratch]:
    """An empty database for one restore. It is removed afterwards."""
    parent = wiring.settings.work_dir
    sweep_folders(parent)
    if wiring.settings.verify_url is not None:
        address = parse(wiring.settings.verify_url.get_secret_value(), "BACKUP_VERIFY_URL")
        with private_folder(parent) as folder, _temporary(address) as (name, version):
            yield Scratch(wiring, manifest, folder, address.named(name), version, given=True)
        return
    superuser, check = manifest.server.superuser, wiring.stop.check
    with cluster(wiring.programs, superuser=superuser, parent=parent, check=check) as own:
        yield Scratch(wiring, manifest, own.folder, own.address.named(DATABASE), own.version, given=False)


@contextmanager
def _temporary(address: Address) -> Iterator[tuple[str, str]]:
    """The name of a database on a configured server, and its version. The database and new roles are removed in every case."""
    name = f"{PREFIX}{secrets.token_hex(4)}"
    with databases(address) as server:
        server.sweep(PREFIX)
        before = server.roles()
        with server.lock(name):
            try:
                yield name, _version(address)
            finally:
                server.drop(name)
                _drop_roles(server, server.roles() - before)


def _drop_roles(server: Databases, names: set[str]) -> None:
    with session(server.address) as connection:
        for name in names:
            try:
                connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))
            except psycopg.Error:
                continue  # something else has started to use it


def _version(address: Address) -> str:
    with session(address) as connection:
        row = connection.execute("SHOW server_version").fetchone()
        assert row is not None
        return str(row[0]).split()[0]
