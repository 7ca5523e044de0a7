"""Names of modules and of test files: the rules in CONTRIBUTING."""

import subprocess
from pathlib import Path, PurePosixPath

import pytest

from stack.paths import ROOT

# Words that end in -ing and are nouns or adjectives; `sending` is what the app calls this step throughout.
NOUNS = {"heading", "missing", "monitoring", "sending", "wiring", "wording"}


def _tracked(*patterns: str) -> list[PurePosixPath]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *patterns],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [PurePosixPath(line) for line in listed.stdout.splitlines() if Path(ROOT, line).exists()]


def bare_gerund(path: PurePosixPath) -> bool:
    """Whether a module's name is a single word that ends in -ing, and not a noun of its own."""
    name = path.stem.lstrip("_")
    return name.endswith("ing") and name.isalpha() and name not in NOUNS


@pytest.mark.parametrize(("name", "gerund"), [("waiting.py", True), ("_reading.py", True), ("readahead.py", False),
                                              ("test_sending.py", False), ("wiring.py", False)])  # fmt: skip
def test_a_bare_gerund_is_recognised(name: str, gerund: bool) -> None:
    assert bare_gerund(PurePosixPath(name)) is gerund


def test_no_module_name_is_a_bare_gerund() -> None:
    modules = _tracked("*.py", "*.ts", "*.js")
    assert len(modules) > 300
    assert [str(path) for path in modules if bare_gerund(path)] == []
