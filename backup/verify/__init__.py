"""Verification by restore."""

from backup.verify.verifying import verify

__all__ = ["verify"]
