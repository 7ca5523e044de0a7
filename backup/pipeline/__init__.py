"""Dump → zstd → age → parts → store, one streaming pass."""

from backup.pipeline.source import ChildSource, Source
from backup.pipeline.upload import Packing, transfer

__all__ = ["ChildSource", "Packing", "Source", "transfer"]
