"""Finds the programs that the stack runs: on PATH, in a wheel, or in a package unpacked into the project."""

from stack.programs.locate import built_by_go, fetch, find, missing, postgres_bin, version
from stack.programs.postgres import SUPPORTED, major, server_bin

__all__ = [
    "SUPPORTED",
    "built_by_go",
    "fetch",
    "find",
    "major",
    "missing",
    "postgres_bin",
    "server_bin",
    "version",
]
