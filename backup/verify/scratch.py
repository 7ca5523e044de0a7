"""The place that a verification restores to: a throwaway server, or a configured one."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from psycopg import sql

from backup.catalogue.manifest import Manifest
from backup.catalogue.records import Difference
from backup.errors import PreflightError
from backup.load.execution import carry_out
from backup.load.throwaway import cluster, server_options, sweep_folders
from backup.postgres import inventory, roles
from backup.postgres.databases import VERIFYING, databases, roles_seen
from backup.postgres.dsn import Address
from backup.postgres.session import session
from backup.postgres.statements import settings_of
from backup.verify import configured
from backup.verify import roles as compare_roles
from backup.verify.large_tables import Exchange
from backup.verify.server_pulse import asked
from backup.wiring import Wiring

DATABASE = "restored"
# An extension that could not be created has none; then it is the one that would have been.
_VERSIONS = "SELECT name, coalesce(installed_version, default_version) FROM pg_available_extensions WHERE name = ANY(%s) ORDER BY 1"


@dataclass(frozen=True)
class Scratch:
    """An empty database for one restore.

    Attributes:
        folder: for the downloaded files.
        database: the database that will be created and filled.
        given: whether the server is a configured one, with other databases.
        made: roles that were created there.
        expected: statements that a dump of these roles should contain.
    """

    wiring: Wiring
    manifest: Manifest
    folder: Path
    database: Address
    version: str
    given: bool
    made: set[str] = field(default_factory=set)
    expected: list[bytes] = field(default_factory=list)

    @property
    def maintenance(self) -> Address:
        """Another database of the server."""
        return self.database.named("postgres")

    @property
    def exchange(self) -> Exchange | None:
        """How the server passes rows of large tables: through the folder of its socket, if it is our own."""
        if self.given:
            return None
        return Exchange(Path(self.database.public["host"]), sessions=self.wiring.restore_jobs)

    def load_globals(self, dumped: Path) -> list[Difference]:
        """Create the roles, within the new database: first those that it needs and the server lacks, as a restore does.

        On a throwaway server all others follow, and the privileges that a restore into production withholds.
        """
        check, statements = self.wiring.stop.check, roles.read(dumped)
        existing, powerful = roles_seen(self.database)
        making = roles.missing(statements, existing, self.manifest.roles, powerful)
        found = carry_out(self.database, "globals", making.statements, check)
        self.made.update(making.names)
        if self.given:
            self.expected.extend(making.expected)
            return found
        self.expected.extend(roles.for_throwaway(statements, self.manifest.server.superuser))
        rest = roles.remaining(self.expected, making.statements)
        found += carry_out(self.database, "globals", [*settings_of(statements), *rest], check)
        self.made.update(name for name, _ in roles.about(self.expected))
        return found

    def compare_globals(self) -> list[Difference]:
        """Differences between the created roles and the originals."""
        programs, superuser = self.wiring.programs, self.manifest.server.superuser
        exact = self.manifest.server.version_number // 10000 == programs.major("pg_dumpall")
        there = compare_roles.dumped(programs, self.database, self.wiring.stop.check)
        wanted, found = (
            compare_roles.by_role(each, exact=exact)
            for each in (self.expected, roles.for_throwaway(there, superuser))
        )
        # On a throwaway server, a role that the backup does not have is a difference too.
        return list(compare_roles.compare(wanted, found, self.made if self.given else {*self.made, *found}))

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

    def sorting(self) -> list[str]:
        """How sorting differs from the original server's: a partition's bound or a check may refuse a row here."""
        there = self.manifest.server
        with session(self.database) as connection:
            here = inventory.server(connection)
        if there.collation_version in ("", here.collation_version) or not here.collation_version:
            return []
        name = there.locale or there.collate
        return [
            f"the locale {name} has version {here.collation_version} here, and {there.collation_version} on the original"
        ]

    def versions(self) -> list[str]:
        """What has a version other than the one on the original server: a restore may refuse what a version does not know."""
        there, wanted = self.manifest.server, {each.name: each.version for each in self.manifest.extensions}
        with session(self.database) as connection:
            here = inventory.server(connection)
            found = connection.execute(_VERSIONS, [list(wanted)]).fetchall()
        older = here.version_number // 10000 < there.version_number // 10000
        server = [f"PostgreSQL is {here.version} here, and {there.version} on the original"] if older else []
        return server + [
            f"the extension {name} has version {version} here, and {wanted[name]} on the original"
            for name, version in found
            if version != wanted[name]
        ]


@contextmanager
def scratch(wiring: Wiring, manifest: Manifest, folder: Path) -> Iterator[Scratch]:
    """An empty database for one restore. It is removed afterwards.

    Args:
        folder: for the downloaded files.
    """
    parent = wiring.settings.work_dir
    sweep_folders(parent)
    if (address := configured.address_of(wiring.settings)) is not None:
        with (
            asked(address, wiring.stop, manifest.database),
            _temporary(address) as (name, version),
        ):
            yield Scratch(wiring, manifest, folder, address.named(name), version, given=True)
        return
    superuser, check = manifest.server.superuser, wiring.stop.check
    options = server_options(wiring.settings.verify_options)
    with cluster(
        wiring.programs,
        superuser=superuser,
        parent=parent,
        check=check,
        options=options,
        kept=wiring.round,
        encoding=manifest.server.roles_encoding,
    ) as own:
        yield Scratch(wiring, manifest, folder, own.address.named(DATABASE), own.version, given=False)


@contextmanager
def _temporary(address: Address) -> Iterator[tuple[str, str]]:
    """A database name on a configured server, and the server's version. The database and new roles are removed in every case."""
    name = f"{VERIFYING}{secrets.token_hex(4)}"
    with databases(address) as server:
        server.sweep(VERIFYING)
        before = server.role_ids()
        with server.lock(name):
            try:
                yield name, _version(address)
            finally:
                server.drop(name)
                server.drop_roles(server.role_ids() - before)


def _version(address: Address) -> str:
    with session(address) as connection:
        row = connection.execute("SHOW server_version").fetchone()
        assert row is not None
        return str(row[0]).split()[0]
