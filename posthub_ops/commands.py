"""The console commands. Standard library only: an extra that was not installed is an error message, not a traceback."""

import importlib
import sys
from pathlib import Path
from typing import NoReturn

_HERE = Path(__file__).resolve().parent
# In a checkout, the packages are next to this one.
LIBRARY = _HERE / "lib" if (_HERE / "lib").is_dir() else _HERE.parent
# Command → module and attribute of its click group, and the extra that installs its dependencies.
COMMANDS = {
    "ops-backup": ("backup.cli", "backup", "backup"),
    "ops-exporter": ("exporters.cli", "exporters", "exporter"),
    "ops-alerts": ("alerts.cli", "main", "alerts"),
    "ops-dashboards": ("dashboards.__main__", "main", "dashboards"),
    "ops-init": ("adopt.cli", "init", "alerts"),
}


def run(name: str) -> NoReturn:
    """Run a command with the process's arguments, and exit with its code."""
    module, attribute, extra = COMMANDS[name]
    # First, so that another package of the same name is not imported instead.
    sys.path.insert(0, str(LIBRARY))
    try:
        group = getattr(importlib.import_module(module), attribute)
        frame = importlib.import_module("sidecar.cli")
    except ModuleNotFoundError as error:
        if error.name is None or (LIBRARY / error.name.partition(".")[0]).exists():
            raise
        sys.stderr.write(
            f"Error: {name} is not installed completely: {error.name} is missing\n"
            f"Try: pip install 'posthub-ops[{extra}]'\n"
        )
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    _harden(name)
    sys.exit(frame.run(group, prog=name))


def _harden(name: str) -> None:
    """Do what ``python -m backup`` does first: protect its memory from other processes."""
    if name == "ops-backup":
        importlib.import_module("backup.confinement").hide_memory()


def backup() -> NoReturn:
    """``ops-backup``."""
    run("ops-backup")


def exporter() -> NoReturn:
    """``ops-exporter``."""
    run("ops-exporter")


def alerts() -> NoReturn:
    """``ops-alerts``."""
    run("ops-alerts")


def init() -> NoReturn:
    """``ops-init``."""
    run("ops-init")


def dashboards() -> NoReturn:
    """``ops-dashboards``."""
    run("ops-dashboards")
