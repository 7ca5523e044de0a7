"""Paths in a checkout. Everything that ./ops creates is below ``.venv`` and ``.ops``."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STATE = ROOT / ".ops"
PROGRAMS = STATE / "programs"
# Not resolved: the interpreter of a virtual environment is a link, and the other programs are next to that link. The
# machine's own interpreter runs only before there is an environment.
VENV_BIN = Path(sys.executable).parent if sys.prefix != sys.base_prefix else ROOT / ".venv" / "bin"


def sources(folder: Path, suffix: str = ".py") -> Iterator[Path]:
    """The source files below a folder. What npm installs is never read: it is huge, and it may be changing."""
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name != "node_modules" and not name.startswith(".")]
        yield from (Path(parent, name) for name in files if name.endswith(suffix))
