"""What can go wrong with a backup, by domain; all of them are read by a person."""

from sidecar import OpsError, UsageError

# For what says nothing about a backup, but about the place where it was to be restored.
OURS = "nothing is known about the backup: see whether memory or a disk was full here, and run it again"


class StoreError(OpsError):
    """A store did not do what it was asked.

    Args:
        operation: ``get``, ``put``, ``part``, …: the label in metrics.
        transient: whether trying again may help.
    """

    def __init__(self, message: str, *, hint: str, operation: str, transient: bool = False) -> None:
        super().__init__(message, hint=hint)
        self.operation = operation
        self.transient = transient


class NotFoundError(StoreError):
    """The object is not in the store."""


class StoreAccessError(StoreError):
    """The store refuses these credentials, or the bucket is not there: a matter of configuration."""

    exit_code = UsageError.exit_code


class DumpError(OpsError):
    """A dump, or a stage behind it, did not end well; nothing of it was committed.

    Args:
        killed: something else ended the program: what it read may be whole.
    """

    def __init__(self, message: str, *, hint: str, killed: bool = False) -> None:
        super().__init__(message, hint=hint)
        self.killed = killed


class PreflightError(OpsError):
    """A backup cannot be made the way things are; nothing was touched."""

    exit_code = UsageError.exit_code


class BusyError(OpsError):
    """Another run holds the lock of this database."""


class CatalogueError(OpsError):
    """A manifest or record in the store is not what it should be."""


class VerificationError(OpsError):
    """Verification could not be carried out, so nothing is known about the backup."""


class NoIdentityError(VerificationError):
    """None of the identities that are given opens an encrypted object."""


class SpaceError(OpsError):
    """There is not enough room on a disk."""
