"""Names of modules and of test files: the rules in CONTRIBUTING."""

import subprocess
from pathlib import Path, PurePosixPath

import pytest

from stack.paths import ROOT

# Words that end in -ing and are nouns or adjectives; `sending` is what the app calls this step throughout.
NOUNS = {"billing", "heading", "missing", "monitoring", "sending", "wiring", "wording"}


def _tracked(*patterns: str) -> list[PurePosixPath]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *patterns],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [PurePosixPath(line) for line in listed.stdout.splitlines() if Path(ROOT, line).exists()]


def bare_gerund(path: PurePosixPath) -> bool:
    """Whether a module's name is a single word that ends in -ing, and not a noun by itself."""
    name = path.stem.lstrip("_")
    return name.endswith("ing") and name.isalpha() and name not in NOUNS


@pytest.mark.parametrize(
    ("name", "gerund"),
    [
        ("waiting.py", True),
        ("_reading.py", True),
        ("readahead.py", False),
        ("test_sending.py", False),
        ("wiring.py", False),
    ],
)
def test_a_bare_gerund_is_recognised(name: str, gerund: bool) -> None:
    assert bare_gerund(PurePosixPath(name)) is gerund


def test_no_module_name_is_a_bare_gerund() -> None:
    modules = _tracked("*.py", "*.ts", "*.js")
    assert len(modules) > 300
    assert [str(path) for path in modules if bare_gerund(path)] == []


# Their topics exist in several parts, so the name of the part comes first.
PARTS = {
    "alerts": "alerts",
    "app": "app",
    "dashboards": "dashboards",
    "exporters": "exporter",
    "frontend": "frontend",
}


def misnamed(paths: list[PurePosixPath]) -> list[str]:
    """Test files that break the rule: ``test_TOPIC.py``, unique, after the part's name in the folders of PARTS."""
    names = [path.name for path in paths]
    wrong = [
        path
        for path in paths
        if names.count(path.name) > 1
        or not path.name.startswith(f"test_{PARTS[path.parts[1]]}_" if path.parts[1] in PARTS else "test_")
    ]
    return [str(path) for path in wrong]


def test_names_of_test_files_follow_one_rule() -> None:
    files = _tracked("tests/**/test_*.py", "tests/**/*_test.py")
    assert len(files) > 100
    assert misnamed(files) == []


def test_a_test_file_without_its_part_or_with_a_second_name_is_found() -> None:
    names = [
        "tests/app/test_api.py",
        "tests/backup/test_run.py",
        "tests/stack/test_run.py",
        "tests/app/test_app_x.py",
    ]
    assert misnamed([PurePosixPath(name) for name in names]) == names[:3]


def test_the_formatter_lays_out_nearly_all_code() -> None:
    skipped = [
        f"{path}:{number}"
        for path in _tracked("*.py")
        for number, line in enumerate(Path(ROOT, path).read_text(encoding="utf-8").splitlines(), 1)
        if line.endswith("# fmt: skip")
    ]
    assert len(skipped) <= 20, skipped
