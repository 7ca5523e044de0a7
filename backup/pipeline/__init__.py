"""Dump → zstd → age → parts → store, one streaming pass."""

from backup.pipeline.source import ChildSource, Source
from backup.pipeline.upload import PackingOptions, transfer

__all__ = ["ChildSource", "PackingOptions", "Source", "transfer"]
