"""Dump → zstd → age → parts → store, one streaming pass."""

from backup.pipeline.source import ChildSource, Source
from backup.pipeline.upload import Packed, PackingOptions, packed, transfer

__all__ = ["ChildSource", "Packed", "PackingOptions", "Source", "packed", "transfer"]
