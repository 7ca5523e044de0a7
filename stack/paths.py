"""Where things are in a checkout. Everything that ./ops makes stays below ``.venv`` and ``.ops``."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STATE = ROOT / ".ops"
PROGRAMS = STATE / "programs"
# Not resolved: the interpreter of a virtual environment is a link, and its neighbours stand beside the link.
VENV_BIN = Path(sys.executable).parent
