"""What is backed up, and the commands before and after it."""

from pydantic import Field, SecretStr

from backup.settings.words import CommandLine, Words
from sidecar.settings import Settings


class SourceSettings(Settings):
    """A part of :class:`backup.settings.BackupSettings`."""

    database_urls: SecretStr | None = Field(
        None,
        description="Databases to back up: `name=url`, separated by commas. For a single database, set DATABASE_URL instead",
    )
    database_url: SecretStr | None = Field(
        None,
        description="The database to back up. Its name in the store is the name of the database",
        validation_alias="DATABASE_URL",
    )
    exclude_tables: Words = Field(
        (),
        description="Tables to leave out of backups: `schema.table`, where `*` and `?` match any characters. Partitions and children are left out too",
    )
    exclude_rows: Words = Field(
        (),
        description="Tables whose rows are left out, but not their definitions; written like BACKUP_EXCLUDE_TABLES",
    )
    before_command: CommandLine = Field(
        None,
        description="Command to run before each backup; if it does not exit with 0, no backup is taken. It is not run by a shell",
    )
    after_command: CommandLine = Field(
        None,
        description="Command to run after each backup, even a failed one: `HOOK_OUTCOME` is `success` or `failure`",
    )
    discover_url: SecretStr | None = Field(
        None,
        description="A PostgreSQL server, all of whose databases are backed up, including those created later: `postgresql://…/postgres`",
    )
    discover_skip: Words = Field(
        ("postgres",),
        description="Databases of that server to leave out; `*` and `?` match any characters",
    )
    redis_urls: SecretStr | None = Field(
        None,
        description="Redis servers to back up: `name=url`, separated by commas",
    )
    servers: SecretStr | None = Field(
        None,
        description="PostgreSQL servers (15 or newer) whose WAL is streamed to the store, for point-in-time recovery: `name=url`, separated by commas. The role needs REPLICATION. Encryption is required",
    )
