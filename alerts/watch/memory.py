"""What the watch knows, kept over a restart: one small JSON file."""

import json
import logging
from pathlib import Path
from typing import Any

from sidecar.logs import fields

log = logging.getLogger(__name__)


class Memory:
    """A file that may be missing, or none at all.

    Args:
        path: None when nothing is kept.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def load(self) -> dict[str, Any]:
        """What was saved last; nothing when there is nothing that can be read."""
        if self._path is None:
            return {}
        try:
            known = json.loads(self._path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            log.warning("begins anew %s", fields(file=self._path, error=type(error).__name__))
            return {}
        return known if isinstance(known, dict) else {}

    def save(self, known: dict[str, Any]) -> None:
        """Keep this instead. The watch goes on when it cannot be written."""
        if self._path is None:
            return
        beside = self._path.with_name(f".{self._path.name}.new")
        try:
            beside.write_text(json.dumps(known), encoding="utf-8")
            beside.replace(self._path)
        except OSError as error:
            log.warning("cannot be kept over a restart %s", fields(file=self._path, error=error.strerror))
