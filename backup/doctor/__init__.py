"""Checks what a backup and its restore need, end to end. Results are collected here and printed elsewhere."""

from backup.doctor.check import Check
from backup.doctor.examination import examine

__all__ = ["Check", "examine"]
