"""What the suite's sidecars share: settings, errors, logs, the command-line frame and a small web server.

A leaf: it imports nothing else of this project.
"""

from sidecar.errors import OpsError, UsageError

__all__ = ["OpsError", "UsageError"]
