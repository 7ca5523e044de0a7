"""Finds the programs that the stack runs: on PATH, in a wheel, or in a Debian package unpacked into the project."""

from stack.programs.locate import find, missing, postgres_bin, version

__all__ = ["find", "missing", "postgres_bin", "version"]
