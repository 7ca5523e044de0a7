"""Verification by restore."""

from backup.verify.verifier import verify

__all__ = ["verify"]
