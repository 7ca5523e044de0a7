"""How backups are verified and restored: programs, folders and checks."""

from pathlib import Path

from pydantic import Field, SecretStr

from backup.settings.words import CommandLine
from sidecar.settings import Settings


class ProofSettings(Settings):
    """A part of :class:`backup.settings.BackupSettings`."""

    postgres_bin: Path | None = Field(
        None,
        description="Folder of PostgreSQL's client and server programs; empty: PATH",
    )
    redis_bin: Path | None = Field(
        None,
        description="Folder of Redis's or Valkey's server and check-rdb programs for verification; empty: PATH",
    )
    redis_modules: str = Field(
        "",
        description="Module files that the throwaway Redis loads, separated by spaces, such as `/usr/lib/redis/rejson.so`",
    )
    work_dir: Path | None = Field(
        None,
        description="Folder for the throwaway server of a verification, and for encrypted parts of a dump that is faster than the store; empty: the system's temporary folder, and the dump waits for the store",
    )
    work_dir_floor: float = Field(
        5.0,
        ge=0,
        le=90,
        description="Percentage of that folder's disk that stays free: a verification or restore that needs more is stopped; 0 disables the check",
    )
    restore_jobs: int = Field(
        0,
        ge=0,
        le=64,
        description="Parallel restore jobs; 0: one per core",
    )
    verify_url: SecretStr | None = Field(
        None,
        description="Server to verify on, `postgresql://…`; empty: a throwaway server for each verification",
    )
    verify_options: str = Field(
        "",
        description="Settings of the throwaway server, `name=value; …`, such as `shared_preload_libraries=pgaudit`",
    )
    verify_checks_dir: Path | None = Field(
        None,
        description="Folder of `*.sql` files, each a query that must return true in a restored database",
    )
    verify_command: CommandLine = Field(
        None,
        description="Command that must exit with 0 when `DATABASE_URL` names a restored database, such as `python manage.py migrate --check`",
    )
    verify_sample: int = Field(
        1,
        ge=0,
        description="Number of older backups of each database that the verify schedule verifies again",
    )
    restore_url: SecretStr | None = Field(
        None,
        description="For restores: production's database, with a role that may create and rename databases; it may be on another server. Empty: the database that is backed up. If several databases are backed up, each keeps its own name",
    )
