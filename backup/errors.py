"""The errors of a backup, by domain. Each has a message and a hint for a person.

::

    OpsError                       exit code 1, unless stated otherwise
    ├── StoreError                 a store operation failed
    │   ├── NotFoundError          the object does not exist
    │   ├── KeptError              the object exists, and the store does not allow it to be replaced
    │   └── StoreAccessError       credentials or bucket are wrong (exit code 2)
    ├── DumpError                  a dump failed; nothing was committed
    ├── PreflightError             a backup cannot be taken in this setup (exit code 2)
    ├── BusyError                  another run has the lock of the database
    ├── ReplicationError           a server refused or ended a command of the replication protocol
    ├── CatalogueError             a manifest or an attempt in the store is invalid
    ├── VerificationError          the verification could not be carried out
    │   ├── NoIdentityError        no identity decrypts the backup
    │   └── UnprovableError        this host lacks something that the proof needs
    ├── RecoveryError              a recovery did not reach its target
    └── SpaceError                 a disk has too little space
"""

from sidecar import OpsError, UsageError

# The hint for a server whose lock table is full, and the text that reveals it.
LOCKS = (
    "raise max_locks_per_transaction on the server, and restart it; python -m backup doctor names the value"
)
LOCKS_SIGN = "max_locks_per_transaction"
# The hint of failures that are due to this host and say nothing about the backup.
OURS = "this says nothing about the backup: check memory and disk space on this host, and run it again"


class StoreError(OpsError):
    """A store operation failed.

    Args:
        operation: ``get``, ``put``, ``part``, …: the label in metrics.
        transient: whether a retry may help.
    """

    def __init__(self, message: str, *, hint: str, operation: str, transient: bool = False) -> None:
        super().__init__(message, hint=hint)
        self.operation = operation
        self.transient = transient


class NotFoundError(StoreError):
    """The object does not exist in the store."""


class KeptError(StoreError):
    """The store refused to replace an object that exists, such as a locked one in a bucket without versions."""


class StoreAccessError(StoreError):
    """The store rejects the credentials, or the bucket does not exist: a configuration error."""

    exit_code = UsageError.exit_code


class DumpError(OpsError):
    """A dump or a later stage of the pipeline failed. Nothing was committed.

    Args:
        killed: another process ended the program, or the kernel did not let it run, so its input may be intact.
    """

    def __init__(self, message: str, *, hint: str, killed: bool = False) -> None:
        super().__init__(message, hint=hint)
        self.killed = killed


class PreflightError(OpsError):
    """A backup cannot be taken in this setup. Nothing was changed."""

    exit_code = UsageError.exit_code


class PromotedError(OpsError):
    """A backup that was to be restored is already in production; nothing was restored."""


class BusyError(OpsError):
    """Another run has the lock of this database."""


class ReplicationError(OpsError):
    """A server refused or ended a command of the replication protocol, or the connection was lost.

    Args:
        sqlstate: PostgreSQL's error code; empty if the connection was lost.
    """

    def __init__(self, message: str, *, hint: str, sqlstate: str = "") -> None:
        super().__init__(message, hint=hint)
        self.sqlstate = sqlstate


class CatalogueError(OpsError):
    """A manifest or an attempt in the store is invalid."""


class VerificationError(OpsError):
    """The verification could not be carried out, so it says nothing about the backup."""


class NoIdentityError(VerificationError):
    """None of the configured identities decrypts the object."""


class UnprovableError(VerificationError):
    """This host lacks something that the proof needs, so the result is inconclusive."""


class RecoveryError(OpsError):
    """A recovery from base backup and log did not reach its target. Nothing was promoted."""


class SpaceError(OpsError):
    """A disk has too little free space."""
