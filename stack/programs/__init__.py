"""Finds the programs that the stack runs: on PATH, in a wheel, or in a Debian package unpacked into the project."""

from stack.programs.finding import find, postgres_bin, version

__all__ = ["find", "postgres_bin", "version"]
