"""A store in an S3 bucket of Amazon or any compatible server."""

from backup.store.s3.store import S3Store, S3Upload

__all__ = ("S3Store", "S3Upload")
