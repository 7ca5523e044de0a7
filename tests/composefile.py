"""Compose files as data."""

from pathlib import Path
from typing import Any

import yaml


def merged(path: Path) -> dict[str, Any]:
    """A compose file with those that it includes."""
    found: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    for name in found.pop("include", ()):
        for kind, content in merged(path.with_name(name)).items():
            if isinstance(content, dict):
                found.setdefault(kind, {}).update(content)
    return found
