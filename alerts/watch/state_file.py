"""The watch's state, kept across restarts in a small JSON file."""

import json
import logging
from pathlib import Path
from typing import Any

from sidecar.logs import fields

log = logging.getLogger(__name__)


class StateFile:
    """A JSON file that may be missing.

    Args:
        path: None if no state is kept.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def load(self) -> dict[str, Any]:
        """The last saved state; empty if there is none or it cannot be read."""
        if self._path is None:
            return {}
        try:
            known = json.loads(self._path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            log.warning(
                "state cannot be read, starting without it %s",
                fields(file=self._path, error=type(error).__name__),
            )
            return {}
        return known if isinstance(known, dict) else {}

    def save(self, known: dict[str, Any]) -> None:
        """Save the state. If that fails, the watch logs a warning and continues."""
        if self._path is None:
            return
        temporary = self._path.with_name(f".{self._path.name}.new")
        try:
            temporary.write_text(json.dumps(known), encoding="utf-8")
            temporary.replace(self._path)
        except OSError as error:
            log.warning("state cannot be saved %s", fields(file=self._path, error=error.strerror))
