"""Paths in a checkout. Everything that ./ops creates is below ``.venv`` and ``.ops``."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STATE = ROOT / ".ops"
PROGRAMS = STATE / "programs"
# Not resolved: the interpreter of a virtual environment is a link, and the other programs are next to that link. The
# machine's own interpreter runs only before there is an environment.
VENV_BIN = Path(sys.executable).parent if sys.prefix != sys.base_prefix else ROOT / ".venv" / "bin"
