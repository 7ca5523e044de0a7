"""Shared by all sidecars: settings, errors, logs, the command-line frame, HTTP clients and a small web server.

It imports nothing else from this project.
"""

from sidecar.errors import OpsError, UsageError

__all__ = ["OpsError", "UsageError"]
