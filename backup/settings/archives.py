"""How a backup is compressed, encrypted, signed and limited in time."""

from pydantic import Field, SecretStr

from backup.settings.words import Words
from sidecar.settings import Settings


class ArchiveSettings(Settings):
    """A part of :class:`backup.settings.BackupSettings`."""

    age_recipients: Words = Field(
        (),
        description="age public keys (`age1…`) that backups are encrypted to; empty: NOT encrypted",
    )
    age_identity: SecretStr | None = Field(
        None,
        description="age identity that decrypts backups for verification and restore: the output of `age-keygen`",
    )
    manifest_key: SecretStr | None = Field(
        None,
        description="Key that signs manifests, reports and records, at least 32 characters. Older keys that are still trusted may follow, separated by commas. Empty: nothing is signed",
    )
    zstd_level: int = Field(
        2,
        ge=1,
        le=19,
        description="zstd level; 3 compresses 3% better and takes 1.5 times as long",
    )
    threads: int = Field(
        0,
        ge=0,
        le=64,
        description="Compression threads; 0: one per core",
    )
    upload_threads: int = Field(
        3,
        ge=1,
        le=16,
        description="Number of parts uploaded at the same time",
    )
    timeout: float = Field(
        21600,
        gt=0,
        description="Maximum duration of a run in seconds; an open snapshot delays vacuum",
    )
    stall_timeout: float = Field(
        1800,
        gt=0,
        description="Seconds without a byte or a response from the database and the store, after which a run counts as failed. Raise it if a dump is silent for longer, as when it reads a large table of deleted rows",
    )
