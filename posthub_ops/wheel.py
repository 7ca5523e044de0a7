"""The wheel's build step: our packages and their files, below one name. It runs in the build's own environment.

Texts that name a command are changed to the installed command's name.
"""

import re
import shutil
from pathlib import Path

from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent.parent
# The files of each folder that the wheel contains.
CONTENTS = {
    "sidecar": ("**/*.py",),
    "exporters": ("**/*.py",),
    "backup": ("**/*.py",),
    "alerts": ("**/*.py", "*.yml", "rules/*.yml", "tests/*.yml", "targets/*.yml", "templates/*"),
    "adopt": ("**/*.py",),
    "dashboards": ("**/*.py", "json/*.json", "json/.lint", "provisioning/**/*.yml"),
    "runbooks": ("*.md", "*.sh", "alerts/*.md", "lib/*.sh"),
    "deploy": ("systemd/*", "completions/*"),
}
NAMES = {
    "python -m backup": "ops-backup",
    "python -m exporters": "ops-exporter",
    "python -m alerts": "ops-alerts",
    "python -m dashboards": "ops-dashboards",
    "python -m adopt": "ops-init",
    "./ops alerts": "ops-alerts",
    "./ops dashboards": "ops-dashboards",
}
_NAME = re.compile("|".join(f"{re.escape(name)}(?![a-z.])" for name in NAMES))


class BuildPy(build_py):
    """Adds ``posthub_ops/lib`` to what setuptools builds."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        package = Path(self.build_lib) / "posthub_ops"
        (package / "wheel.py").unlink(missing_ok=True)
        library = package / "lib"
        shutil.rmtree(library, ignore_errors=True)
        for source in files():
            target = library / source.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.suffix == ".py":
                target.write_text(installed(source.read_text(encoding="utf-8")), encoding="utf-8")
            else:
                shutil.copy(source, target)
        version = self.distribution.get_version()
        (library / "sidecar" / "version.py").write_text(
            f'"""The version that was built."""\n\n__version__ = "{version}"\n', encoding="utf-8"
        )


def files() -> list[Path]:
    """Everything that the wheel contains."""
    found = {
        path
        for folder, patterns in CONTENTS.items()
        for pattern in patterns
        for path in (ROOT / folder).glob(pattern)
    }
    return sorted(path for path in found if path.is_file() and "__pycache__" not in path.parts)


def installed(text: str) -> str:
    """A text with the names of the installed commands."""
    return _NAME.sub(lambda match: NAMES[match[0]], text)
