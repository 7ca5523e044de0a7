"""Which variables the app reads."""

import re

from stack.paths import ROOT, sources

READ = re.compile(r"env\.\w+\(\s*\"([A-Z0-9_]+)\"")
PLANNED = {"DJANGO_SETTINGS_MODULE", "DEBUG"}


def app_variables() -> set[str]:
    text = "".join(path.read_text(encoding="utf-8") for path in sources(ROOT / "app"))
    return {*READ.findall(text), *PLANNED}
