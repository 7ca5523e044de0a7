"""The whole suite, embedded: every server and service of production on 127.0.0.1."""

from stack.suite.suite import Suite

__all__ = ["Suite"]
